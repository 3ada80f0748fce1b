"""The pictures of docs/using.md: what SimCLR makes of scikit-learn's digits.

python examples/pictures.py --output docs/images
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from sklearn_ssl import SimCLR, Views
from sklearn_ssl.inspection import FeatureMapDisplay, NeighborsDisplay

matplotlib.use("Agg")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    X = load_digits().images
    ssl = SimCLR(max_epochs=options.epochs, views=Views(flip=0), random_state=0).fit(X)
    rows = np.random.default_rng(0).permutation(len(X))
    for name, display in {
        "neighbors": NeighborsDisplay.from_estimator(ssl, X, X[rows[:5]]),
        "feature_map": FeatureMapDisplay.from_estimator(ssl, X[rows[:500]]),
    }.items():
        display.figure_.savefig(options.output / f"{name}.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
