"""
Which images to label first
===========================

Which images to label first: one of each cluster of features, instead of any.

::

    python examples/tasks/label_first.py

.. image:: /images/tasks/label_first.png
    :alt: The digits chosen at random and from clusters, and what a probe on them gets right
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/label_first.png'

import argparse

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_train=1300, n_labels=20, max_epochs=40, n_draws=10, picture=None):
    digits = load_digits()
    X, y = digits.images, digits.target
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0).fit(X[:n_train])
    scale = make_pipeline(StandardScaler(), Normalizer())
    features = scale.fit_transform(ssl.transform(X[:n_train]))
    tested = scale.transform(ssl.transform(X[n_train:]))

    def accuracy(rows):
        if len(np.unique(y[rows])) < 2:
            return 0.0
        probe = LogisticRegression(C=10.0, max_iter=1000).fit(features[rows], y[rows])
        return probe.score(tested, y[n_train:])

    rng = np.random.default_rng(0)
    chosen = {"at random": [], "middles of clusters": []}
    for seed in range(n_draws):
        chosen["at random"].append(rng.choice(n_train, n_labels, replace=False))
        clusters = KMeans(n_labels, n_init=3, random_state=seed).fit(features)
        middles = pairwise_distances_argmin(clusters.cluster_centers_, features)
        chosen["middles of clusters"].append(middles)
    found = {name: float(np.mean([accuracy(r) for r in draws])) for name, draws in chosen.items()}
    for name, value in found.items():
        print(f"{n_labels} labels, {name}: {100 * value:.1f} %")
    if picture:
        draw(X, y, {name: draws[0] for name, draws in chosen.items()}, found, picture)
    return found


def draw(X, y, chosen, found, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    *walls, bars = figure.subplots(1, 3)
    for ax, name, color in zip(walls, chosen, ("Blue", "Orange"), strict=True):
        for digit in range(10):  # its images in a row, which is empty where none was chosen
            rows = chosen[name][y[chosen[name]] == digit]
            for column, i in enumerate(rows):
                extent = column, column + 0.9, digit + 0.4, digit - 0.4
                ax.imshow(X[i], f"{color}s", extent=extent, interpolation="nearest")
        ax.set(title=name.replace(" of", "\nof"), xlim=(0, 5), ylim=(9.5, -0.5))
        ax.set(xticks=[], yticks=range(10))
        bar = bars.bar(name, 100 * found[name], color=f"tab:{color.lower()}")
        bars.bar_label(bar, fmt="%.0f %%")
    bars.set(title="accuracy", ylim=(0, 100), xticks=[], yticks=[])
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
