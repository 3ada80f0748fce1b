"""Draw the pictures of docs/using.md from learners trained on scikit-learn's digits.

python examples/pictures.py --output docs/images
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from sklearn_ssl import MaskedAutoencoder, SimCLR, Views
from sklearn_ssl.inspection import (
    FeatureMapDisplay,
    LayersDisplay,
    NeighborsDisplay,
    ProbeMonitor,
    ReconstructionDisplay,
    TrainingDisplay,
    ViewsDisplay,
)

matplotlib.use("Agg")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    X, y = load_digits().images, load_digits().target
    rows = np.random.default_rng(0).permutation(len(X))
    monitor = ProbeMonitor(X[rows[:300]], y[rows[:300]])
    ssl = SimCLR(
        max_epochs=options.epochs, views=Views(flip=0), callbacks=[monitor], random_state=0
    ).fit(X)
    masked = MaskedAutoencoder(max_epochs=options.epochs, random_state=0).fit(X)
    for name, display in {
        "neighbors": NeighborsDisplay.from_estimator(ssl, X, X[rows[:5]]),
        "feature_map": FeatureMapDisplay.from_estimator(ssl, X[rows[:500]], y[rows[:500]]),
        "training": TrainingDisplay.from_estimator(ssl),
        "layers": LayersDisplay.from_estimator(ssl, X[rows[:500]], y[rows[:500]]),
        "views": ViewsDisplay.from_estimator(ssl, X[rows[:4]]),
        "reconstructions": ReconstructionDisplay.from_estimator(masked, X[rows[:8]]),
    }.items():
        display.figure_.savefig(options.output / f"{name}.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
