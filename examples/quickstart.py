"""Is self-supervision worth it? Unlabeled digits, and from one label a class on.

    pip install ".[examples]" && python examples/quickstart.py

Pretrains on images without labels, fits logistic regressions to few labels, and compares with raw
pixels, PCA and the untrained encoder. Needs no download and no GPU.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from sklearn_ssl import SimCLR, Views
from sklearn_ssl.inspection import FeatureMapDisplay, LabelsDisplay, compare


def main():
    X, y = load_digits().images, load_digits().target
    # digits are no mirror images of each other, and all of a digit has to stay in view
    views = Views(flip=0, crop_scale=(0.3, 1.0))
    rivals = {
        "raw pixels": "passthrough",
        "PCA, 30 components": PCA(30, random_state=0),
        "random encoder": SimCLR(max_epochs=0, random_state=0),
        "SimCLR": SimCLR(views=views, max_epochs=60, random_state=0, verbose=1),
    }
    table = compare(rivals, X, y, n_labels=(10, 50, 250, 1000), n_splits=10)
    print("\ntest accuracy in %, mean ± spread over draws of the labels")
    print(f"{'labels':<20}" + "".join(f"{n:>14,}" for n in table["n_labels"].unique()))
    for method, rows in table.groupby("method", sort=False):
        cells = zip(100 * rows["accuracy"], 100 * rows["spread"], strict=True)
        print(f"{method:<20}" + "".join(f"{mean:8.1f} ± {spread:3.1f}" for mean, spread in cells))

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained")
    LabelsDisplay.from_table(table, ax=left)
    left.set_title("accuracy of a logistic regression")
    some = np.random.default_rng(0).permutation(len(X))[:400]
    ssl = SimCLR(views=views, max_epochs=20, random_state=0).fit(X)
    FeatureMapDisplay.from_estimator(ssl, X[some], ax=right)
    right.set_title("digits on a map of their features; no label was used")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=110)
    print(f"\nsaved {path}")


if __name__ == "__main__":
    main()
