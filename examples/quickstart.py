"""Is self-supervision worth it? Pretrain on unlabeled digits, and learn from 10 to 250 labels.

    pip install ".[examples]" && python examples/quickstart.py

Pretrains SimCLR without labels, fits a probe to a few labels, and compares it with raw pixels, PCA,
a patch dictionary, the untrained encoder (all with the same probe), and a network trained on the
labels alone. Needs no download and no GPU.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from sklearn_ssl import PatchDictionary, SimCLR, Views
from sklearn_ssl.inspection import FeatureMapDisplay, LabelsDisplay, compare, verdict


def main():
    X, y = load_digits().images, load_digits().target
    # a mirror image is not the same digit, and most of a digit must stay in view
    views = Views(flip=0, crop_scale=(0.3, 1.0))
    ssl = SimCLR(views=views, max_epochs=20, random_state=0)
    methods = {
        "raw pixels": "passthrough",
        "PCA, 30 components": PCA(30, random_state=0),
        "patch dictionary": PatchDictionary(random_state=0),
        "random encoder": SimCLR(max_epochs=0, random_state=0),
        "supervised": "supervised",
        "SimCLR": ssl,
    }
    table = compare(methods, X, y, n_labels=(10, 50, 250), n_splits=5, n_fits=2)
    print("\ntest accuracy in %, ± its standard error over draws of labels, fits and test images")
    print(f"{'labels':<20}" + "".join(f"{n:>14,}" for n in table["n_labels"].unique()))
    for method, rows in table.groupby("method", sort=False):
        cells = zip(100 * rows["accuracy"], 100 * rows["error"], strict=True)
        print(f"{method:<20}" + "".join(f"{mean:8.1f} ± {error:3.1f}" for mean, error in cells))
    print("\n" + verdict(table))

    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 5.5), layout="constrained")
    LabelsDisplay.from_table(table, ax=left)
    some = np.random.default_rng(0).permutation(len(X))[:400]
    FeatureMapDisplay.from_estimator(ssl.fit(X), X[some], ax=right)
    right.set_title("map of the digits by their features, learned without labels")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=110)
    print(f"\nsaved {path}")


if __name__ == "__main__":
    main()
