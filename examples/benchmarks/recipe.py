"""What the recipe of minutes.py was chosen by: settings of SimCLR, on validation images.

    python examples/benchmarks/recipe.py --data cifar10/

Each is trained on 10,000 images for as many epochs as 500 seconds of two cores had, and compared on
4,000 others; the test part of minutes.py is not looked at.
"""

import argparse

from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import KernelProbe, PatchDictionary, SimCLR, Views

from data import load_images, machine  # isort: skip
from minutes import split  # isort: skip

LAYERS = ["layer2", "layer3", "layer4"]
SETTINGS = {
    "views of 20 pixels": {"max_epochs": 60, "views": Views(size=20)},
    "views of 24 pixels": {"max_epochs": 44, "views": Views(size=24)},
    "views of 24 pixels, crops from 0.2 of the area on": {
        "max_epochs": 44,
        "views": Views(size=24, crop_scale=(0.2, 1.0)),
    },
    "views of 24 pixels, batches of 128": {
        "max_epochs": 47,
        "views": Views(size=24),
        "batch_size": 128,
        "lr": 1.4e-3,
    },
}


def compared(ssl, dictionary, images, labels, rows):
    """Accuracies of SimCLR alone, mirrored, and mirrored beside the dictionary by a kernel."""
    train, validation = rows
    alone = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1000))
    for mirror in (False, True):
        ssl.set_params(mirror=mirror)
        known, found = ssl.transform(images[train]), ssl.transform(images[validation])
        yield alone.fit(known, labels[train]).score(found, labels[validation])
    both = FeatureUnion(
        [
            ("dictionary", make_pipeline(dictionary, StandardScaler())),
            ("ssl", make_pipeline(FrozenEstimator(ssl), StandardScaler())),
        ],
        transformer_weights={"ssl": 2.0},
    )
    pipeline = make_pipeline(both, KernelProbe())
    yield pipeline.fit(images[train], labels[train]).score(images[validation], labels[validation])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    options = parser.parse_args()
    print(machine())
    images, labels = load_images(options.data)
    _, seen, _ = split(len(images), seed=0)
    rows = seen[:10_000], seen[-4000:]
    print("| SimCLR | linear | linear, mirrored | with the dictionary, kernel |\n|---|---|---|---|")
    for name in options.settings:
        ssl = SimCLR(layer=LAYERS, random_state=0, **SETTINGS[name]).fit(images[rows[0]])
        dictionary = PatchDictionary(n_atoms=1600, mirror=True, random_state=0)
        found = compared(ssl, dictionary, images, labels, rows)
        print(f"| {name} | {' | '.join(f'{100 * accuracy:.1f}' for accuracy in found)} |")


if __name__ == "__main__":
    main()
