"""
Few labels a class
==================

One, five, twenty labels a class: features and a probe against a network trained with labels.

::

    python examples/tasks/few_labels.py

.. image:: /images/tasks/few_labels.png
    :alt: Accuracy against labels a class, for both
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/few_labels.png'

import argparse
import tempfile

import numpy as np
from sklearn.datasets import load_digits

from sklearn_ssl import FineTunedClassifier, SelfSupervisedClassifier, SimCLR, Views


def main(
    n_train=1300,
    n_labels=(1, 5, 20),
    max_epochs=40,
    max_epochs_supervised=60,
    memory=None,
    picture=None,
):
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
            encoder="small_resnet", max_epochs=max_epochs_supervised, views=still, random_state=0
        ).fit(X[rows], y[rows])
        found[n] = {
            "SimCLR and a probe": probe.score(X[n_train:], y[n_train:]),
            "supervised from scratch": scratch.score(X[n_train:], y[n_train:]),
        }
        for name, accuracy in found[n].items():
            print(f"{n:2} labels a class, {name}: {100 * accuracy:.1f} %")
    if picture:
        draw(found, picture)
    return found


def draw(found, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    ax = figure.subplots()
    for name in ("SimCLR and a probe", "supervised from scratch"):
        ax.plot(list(found), [100 * row[name] for row in found.values()], "o-", label=name)
    ax.set(xlabel="labels a class", ylabel="accuracy in %", xscale="log")
    ax.set_xticks(list(found), labels=map(str, found))
    ax.minorticks_off()
    ax.legend(loc="lower right")
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    with tempfile.TemporaryDirectory() as folder:
        main(memory=folder, picture=parser.parse_args().picture)
