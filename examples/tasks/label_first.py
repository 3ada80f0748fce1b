"""
Which images to label first
===========================

Which images to label first: one of each cluster of features, instead of any.

::

    python examples/tasks/label_first.py
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_train=1300, n_labels=20, max_epochs=40, n_draws=10):
    digits = load_digits()
    X, y = digits.images, digits.target
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0).fit(X[:n_train])
    scale = make_pipeline(StandardScaler(), Normalizer())
    features = scale.fit_transform(ssl.transform(X[:n_train]))
    tested = scale.transform(ssl.transform(X[n_train:]))

    def accuracy(rows):
        rows = np.asarray(rows)
        if len(np.unique(y[rows])) < 2:
            return 0.0
        probe = LogisticRegression(C=10.0, max_iter=1000).fit(features[rows], y[rows])
        return probe.score(tested, y[n_train:])

    rng = np.random.default_rng(0)
    at_random = [accuracy(rng.choice(n_train, n_labels, replace=False)) for _ in range(n_draws)]
    middles = [
        accuracy(
            pairwise_distances_argmin(
                KMeans(n_labels, n_init=3, random_state=seed).fit(features).cluster_centers_,
                features,
            )
        )
        for seed in range(n_draws)
    ]
    found = {"at random": float(np.mean(at_random)), "middles of clusters": float(np.mean(middles))}
    for name, value in found.items():
        print(f"{n_labels} labels, {name}: {100 * value:.1f} %")
    return found


if __name__ == "__main__":
    main()
