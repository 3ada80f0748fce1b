"""
Near-duplicates, and what they leak
===================================

Near-duplicates, which leak from training to test: found by their features, and kept in one fold.

::

    python examples/tasks/near_duplicates.py
"""

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


def main(n_images=600, n_copies=300, max_epochs=40):
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
    return {"found": found, **scores}


if __name__ == "__main__":
    main()
