"""
Outliers
========

Outliers among images: digits that a detector has never seen, by the distance to what it knows.

::

    python examples/tasks/outliers.py

.. image:: /images/tasks/outliers.png
    :alt: Distances of known and of new digits, and those nearest and farthest
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/outliers.png'

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_images=1797, max_epochs=40, picture=None):
    digits = load_digits()
    X, y = digits.images[:n_images], digits.target[:n_images]
    known = y < 5
    n_train = int(0.7 * known.sum())
    train, tested = X[known][:n_train], np.concatenate([X[known][n_train:], X[~known]])
    is_outlier = np.arange(len(tested)) >= known.sum() - n_train
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0).fit(train)
    found = {}
    for name, transform in {
        "pixels": lambda X: X.reshape(len(X), -1),
        "SimCLR": ssl.transform,
    }.items():
        scale = make_pipeline(StandardScaler(), Normalizer()).fit(transform(train))
        index = NearestNeighbors(n_neighbors=5).fit(scale.transform(transform(train)))
        distances, _ = index.kneighbors(scale.transform(transform(tested)))
        found[name] = roc_auc_score(is_outlier, distances.mean(1))
        print(f"{name}: area under the ROC curve {found[name]:.2f}")
    if picture:
        draw(tested, is_outlier, distances.mean(1), picture)
    return found


def draw(images, is_outlier, distances, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    axes = figure.subplot_mosaic("aa;bc", height_ratios=(3, 1))
    for name, of_these in {"known: 0 to 4": ~is_outlier, "new: 5 to 9": is_outlier}.items():
        axes["a"].hist(distances[of_these], 30, density=True, alpha=0.6, label=name)
    axes["a"].set(xlabel="distance to known digits", yticks=[])
    axes["a"].legend()
    order = np.argsort(distances)
    for ax, name, rows in (axes["b"], "nearest", order[:5]), (axes["c"], "farthest", order[-5:]):
        ax.imshow(np.hstack(images[rows]), "Greys")
        ax.set(xlabel=name, xticks=[], yticks=[])
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
