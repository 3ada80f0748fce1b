"""
Clusters without labels
=======================

Clusters of images without any label: digits fall into groups that are mostly one digit.

::

    python examples/tasks/clustering.py

.. image:: /images/tasks/clustering.png
    :alt: Digits of each cluster of pixels and of each cluster of features, a row each
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/clustering.png'

import argparse

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_images=1797, max_epochs=40, picture=None):
    digits = load_digits()
    X, y = digits.images[:n_images], digits.target[:n_images]
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0)
    found, clusters_of = {}, {}
    for name, features in {
        "pixels": digits.data[:n_images],
        "SimCLR": ssl.fit_transform(X),
    }.items():
        clusters = make_pipeline(
            StandardScaler(),
            PCA(30, random_state=0),
            Normalizer(),
            KMeans(10, n_init=10, random_state=0),
        ).fit_predict(features)
        clusters_of[name] = clusters
        found[name] = normalized_mutual_info_score(y, clusters)
        print(f"{name}: normalized mutual information with the digits {found[name]:.2f}")
    if picture:
        draw(X, y, clusters_of, picture)
    return found


def draw(X, y, clusters_of, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    figure.supxlabel("a row is a cluster; red: other digits than most", fontsize="medium")
    for ax, (name, clusters) in zip(figure.subplots(1, 2), clusters_of.items(), strict=True):
        wall = np.zeros((10, 10, 7, 10))  # a row for each cluster, with its first seven images
        digit = [np.bincount(y[clusters == c]).argmax() for c in range(10)]
        for row, c in enumerate(np.argsort(digit)):
            for column, i in enumerate(np.flatnonzero(clusters == c)[:7]):
                # red, below zero, where it is not the digit that is most of the cluster
                wall[row, 1:9, column, 1:9] = X[i] if y[i] == digit[c] else -X[i]
        ax.imshow(wall.reshape(100, 70), "RdGy", vmin=-16, vmax=16, interpolation="nearest")
        ax.set(title=f"clusters of {name}", xticks=[], yticks=[])
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
