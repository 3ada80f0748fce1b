"""Which layers, pooled how: accuracy, width and time of the probe, on three data sets.

    python examples/benchmarks/layers.py --cifar10 FOLDER --imagenette FOLDER

SimCLR with its defaults, but for small views; logistic regressions on standardized features. What
measures without labels would choose is in layer_measures.py.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssl import LinearProbe, SimCLR, Views

from data import load_images, machine  # isort: skip

DEFAULT = "layer3, 3 x 3 (default)"
CHOICES = {
    "layer2, 3 x 3": ("layer2", 3),
    "layer3, avg": ("layer3", "avg"),
    DEFAULT: ("layer3", 3),
    "layer4, avg": ("layer4", "avg"),
    "layer4, 3 x 3": ("layer4", 3),
    "layer3 + layer4, 3 x 3": (["layer3", "layer4"], 3),
    "layer2 + layer3, 3 x 3": (["layer2", "layer3"], 3),
    "layer2 + layer3 + layer4, avg": (["layer2", "layer3", "layer4"], "avg"),
    "layer2 + layer3 + layer4, 3 x 3": (["layer2", "layer3", "layer4"], 3),
    "all, 2 x 2": ("all", 2),
}


def datasets(options):
    digits = load_digits()
    yield "digits", digits.images, digits.target, None, 60, 500
    for name, side, size, epochs in (("cifar10", 32, 16, 8), ("imagenette", 96, 32, 6)):
        path = getattr(options, name)
        if path is None:
            continue
        images, labels = load_images(path, side)
        order = np.random.default_rng(0).permutation(len(images))
        order = order[: 6000 if name == "cifar10" else 2400]
        yield name, images[order], labels[order], size, epochs, len(order) // 6


def compared(ssl, X, y, n_test):
    """For each choice: width, accuracy and seconds of the probe."""
    for label, (layer, pool) in CHOICES.items():
        ssl.set_params(layer=layer, pool=pool)
        train, test = ssl.transform(X[n_test:]), ssl.transform(X[:n_test])
        probe = LinearProbe()
        began = time.perf_counter()
        probe.fit(train, y[n_test:])
        row = {"width": train.shape[1], "seconds": time.perf_counter() - began}
        row["accuracy"] = 100 * probe.score(test, y[:n_test])
        yield label, row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", help="a zip or folder of class/name images")
    parser.add_argument("--imagenette", help="a zip or folder of class/name images")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(machine())
    print("| data | features | width | accuracy, % | seconds of the probe, to the default's |")
    print("|---|---|---|---|---|")
    for name, X, y, size, epochs, n_test in datasets(options):
        views = Views(flip=0) if size is None else Views(size=size)
        ssl = SimCLR(max_epochs=epochs, views=views, random_state=0).fit(X[n_test:])
        rows = dict(compared(ssl, X, y, n_test))
        for label, row in rows.items():
            ratio = row["seconds"] / rows[DEFAULT]["seconds"]
            cells = f"{row['width']:,} | {row['accuracy']:.1f} | {ratio:.1f}"
            print(f"| {name} | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
