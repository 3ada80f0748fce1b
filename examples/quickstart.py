"""Learn from unlabeled digits, then from five labels a class.

    pip install . && python examples/quickstart.py

Pretrains on the images of the training part, fits logistic regressions on few labels, and compares
with raw pixels, PCA and the untrained encoder. Needs no download and no GPU.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import SimCLR, Views

LABELS_A_CLASS = 5
DRAWS = 10


def draw_labels(y, seed):
    """Rows of a few labeled images of each class."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(np.flatnonzero(y == c), LABELS_A_CLASS, replace=False) for c in np.unique(y)]
    return np.concatenate(rows)


def accuracies(features, X_train, y_train, X_test, y_test):
    """Test accuracy of the probe for each draw of labels."""
    F_train, F_test = features.transform(X_train), features.transform(X_test)
    scores = []
    for seed in range(DRAWS):
        few = draw_labels(y_train, seed)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        scores.append(probe.fit(F_train[few], y_train[few]).score(F_test, y_test))
    return 100 * np.array(scores)


def plot(maps, y, path):
    """2-D maps of the test images side by side, one color a digit."""
    figure, axes = plt.subplots(1, len(maps), figsize=(11, 5.4), layout="constrained")
    for ax, (title, features) in zip(axes, maps.items(), strict=True):
        points = TSNE(init="pca", random_state=0).fit_transform(features)
        for digit in range(10):
            here = points[y == digit]
            ax.scatter(*here.T, s=9, color=plt.cm.tab10(digit), linewidths=0)
            ax.annotate(
                str(digit), np.median(here, axis=0), ha="center", va="center", fontsize=15,
                weight="bold", bbox={"boxstyle": "circle", "fc": "white", "alpha": 0.7, "lw": 0},
            )  # fmt: skip
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    figure.suptitle("Test digits, t-SNE. No label was used for either map.")
    figure.savefig(path, dpi=110)


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=500, stratify=y, random_state=0
    )

    # digits are no mirror images of each other, and all of a digit has to stay in view
    views = Views(flip=0, crop_scale=(0.3, 1.0))
    ssl = SimCLR(views=views, max_epochs=60, random_state=0, verbose=1)
    began = time.perf_counter()
    ssl.fit(X_train)
    seconds = time.perf_counter() - began
    print(f"pretrained on {len(X_train)} unlabeled images in {seconds:.0f} s\n")

    rows = {
        "raw pixels": FunctionTransformer().fit(X_train),
        "PCA, 30 components": PCA(30, random_state=0).fit(X_train),
        "encoder at random initialization": SimCLR(max_epochs=0, random_state=0).fit(X_train),
        "SimCLR, pretrained": ssl,
    }
    print(f"test accuracy with {LABELS_A_CLASS} labels a class, mean ± std over {DRAWS} draws")
    for name, features in rows.items():
        scores = accuracies(features, X_train, y_train, X_test, y_test)
        print(f"  {name:<34}{scores.mean():5.1f} ± {scores.std(ddof=1):.1f} %")

    path = Path(__file__).with_suffix(".png")
    plot({"raw pixels": X_test, "SimCLR features": ssl.transform(X_test)}, y_test, path)
    print(f"\nsaved {path}")


if __name__ == "__main__":
    main()
