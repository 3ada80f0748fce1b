"""
Outliers
========

Outliers among images: digits that a detector has never seen, by the distance to what it knows.

::

    python examples/tasks/outliers.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_images=1797, max_epochs=40):
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
    return found


if __name__ == "__main__":
    main()
