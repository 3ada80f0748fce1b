"""
Few labels a class
==================

One, five, twenty labels a class: features and a probe against a network trained with labels.

::

    python examples/tasks/few_labels.py
"""

import tempfile

import numpy as np
from sklearn.datasets import load_digits

from sklearn_ssl import FineTunedClassifier, SelfSupervisedClassifier, SimCLR, Views


def main(n_train=1300, n_labels=(1, 5, 20), max_epochs=40, max_epochs_supervised=60, memory=None):
    digits = load_digits()
    X, y = digits.images, digits.target
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0, memory=memory)
    still = Views(crop_scale=(0.7, 1.0), flip=0, jitter=None)
    found = {}
    for n in n_labels:
        rng = np.random.default_rng(0)
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(y[:n_train] == c), n, replace=False) for c in range(10)]
        )
        few = np.full(n_train, -1)
        few[rows] = y[rows]
        probe = SelfSupervisedClassifier(ssl).fit(X[:n_train], few)  # pretrained once: memory
        scratch = FineTunedClassifier(
            "small_resnet", max_epochs=max_epochs_supervised, views=still, random_state=0
        ).fit(X[rows], y[rows])
        found[n] = {
            "SimCLR and a probe": probe.score(X[n_train:], y[n_train:]),
            "supervised from scratch": scratch.score(X[n_train:], y[n_train:]),
        }
        for name, accuracy in found[n].items():
            print(f"{n:2} labels a class, {name}: {100 * accuracy:.1f} %")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(memory=folder)
