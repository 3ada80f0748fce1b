"""Which photograph is this tile from? Features learned without labels, and 50 or 200 labels.

    pip install ".[examples]" && python examples/quickstart.py

AutoFeatures learns from some 2,000 tiles of photographs, without labels. A logistic regression on
its features is compared with the same one on pixels, PCA, HOG and a patch dictionary, and with a
network trained on the labels alone, in the same time. Needs no download and no GPU.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from photographs import load_tiles
from skimage.feature import hog
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssl import AutoFeatures, PatchDictionary
from sklearn_ssl.inspection import (
    FeatureMapDisplay,
    LabelsDisplay,
    NeighborsDisplay,
    compare,
    verdict,
)


def gradients(images):
    return np.stack([hog(x, pixels_per_cell=(4, 4), channel_axis=-1) for x in images])


def main():
    X, y = load_tiles()
    auto = AutoFeatures(time_budget=12, random_state=0)  # seconds
    methods = {
        "pixels": "passthrough",
        "PCA, 60 components": PCA(60, random_state=0),
        "HOG": FunctionTransformer(gradients),
        "patch dictionary": PatchDictionary(random_state=0),
        "supervised network": "supervised",
        "AutoFeatures": auto,
    }
    table = compare(methods, X, y, n_labels=(50, 200), n_splits=3, n_fits=1, verbose=1)
    print("\ntest accuracy in %, ± its standard error over draws of labels and test images")
    print(f"{'labels':<20}" + "".join(f"{n:>14,}" for n in table["n_labels"].unique()))
    for method, rows in table.groupby("method", sort=False):
        cells = zip(100 * rows["accuracy"], 100 * rows["error"], strict=True)
        print(f"{method:<20}" + "".join(f"{mean:8.1f} ± {error:3.1f}" for mean, error in cells))
    print("\n" + verdict(table))

    features = auto.set_params(verbose=1).fit_transform(X)
    some = np.random.default_rng(0).permutation(len(X))
    figure, axes = plt.subplots(
        1, 3, figsize=(21, 6.5), width_ratios=(8, 6, 7), layout="constrained"
    )
    shown = ("brick", "chelsea", "china", "coffee", "gravel", "immunohistochemistry", "page")
    queries = [np.flatnonzero(y == name)[0] for name in shown]
    LabelsDisplay.from_table(table, ax=axes[0])
    NeighborsDisplay.from_features(features, X, queries, n_neighbors=7, ax=axes[1])
    FeatureMapDisplay.from_features(features[some[:600]], X[some[:600]], y[some[:600]], ax=axes[2])
    axes[1].set_title("tiles (left) and those with the nearest features", pad=20)
    axes[2].set_title("map of the tiles by their features, learned without labels")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(f"\nsaved {path}")


if __name__ == "__main__":
    main()
