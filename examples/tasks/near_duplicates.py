"""
Near-duplicates, and what they leak
===================================

Near-duplicates, which leak from training to test: found by their features, and kept in one fold.

::

    python examples/tasks/near_duplicates.py

.. image:: /images/tasks/near_duplicates.png
    :alt: Originals and the copies found, and the mistakes with both kinds of folds
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/near_duplicates.png'

import argparse

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.neighbors import radius_neighbors_graph
from sklearn.preprocessing import StandardScaler, normalize

from sklearn_ssl import SimCLR, Views


def with_duplicates(X, y, n_copies, seed=0):
    """Images, and slightly brighter or noisier copies of some."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(X), n_copies, replace=False)
    factors = rng.uniform(0.9, 1.1, (n_copies, 1, 1))
    copies = X[rows] * factors + rng.normal(0, 0.3, (n_copies, *X.shape[1:]))
    return np.concatenate([X, copies.clip(0, 16)]), np.concatenate([y, y[rows]]), rows


def main(n_images=600, n_copies=300, max_epochs=40, picture=None):
    digits = load_digits()
    X, y, rows = with_duplicates(digits.images[:n_images], digits.target[:n_images], n_copies)
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0).fit(X)
    unit = normalize(StandardScaler().fit_transform(ssl.transform(X)))
    # the distance at which few images have a neighbor that is no copy
    near = radius_neighbors_graph(unit, 0.45, mode="connectivity")
    _, groups = connected_components(csr_array(near), directed=False)
    found = float(np.mean(groups[n_images:] == groups[rows]))
    print(f"{len(X)} images, {groups.max() + 1} groups, the largest of {np.bincount(groups).max()}")
    print(f"{100 * found:.0f} % of the copies are in the group of their original")
    probe = LogisticRegression(C=0.1, max_iter=1000)
    scores = {}
    for name, folds in {
        "folds at random": KFold(5, shuffle=True, random_state=0),
        "groups kept together": GroupKFold(5),
    }.items():
        scores[name] = cross_val_score(
            probe, X.reshape(len(X), -1), y, groups=groups, cv=folds
        ).mean()
        print(f"accuracy with {name}: {100 * scores[name]:.1f} %")
    if picture:
        pairs = np.flatnonzero(groups[n_images:] == groups[rows])[:8]
        draw(X[rows[pairs]], X[n_images + pairs], scores, picture)
    return {"found": found, **scores}


def draw(originals, copies, scores, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    top, bottom = figure.subplots(2, height_ratios=(2, 1))
    # a row of images above a row of their copies, with a margin around each
    rows = [np.hstack(np.pad(X, ((0, 0), (1, 1), (1, 1)))) for X in (originals, copies)]
    top.imshow(np.vstack(rows), "Greys", interpolation="nearest")
    top.set(title="pairs found", xticks=[], yticks=(4.5, 14.5), yticklabels=("image", "copy"))
    for name, score in scores.items():
        mistakes = 100 * (1 - score)
        bottom.barh(name, mistakes, color="lightblue")
        bottom.text(0, name, f" {name}: {mistakes:.1f} %", verticalalignment="center")
    bottom.set(title="mistakes of a classifier", xticks=[], yticks=[])
    bottom.invert_yaxis()
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
