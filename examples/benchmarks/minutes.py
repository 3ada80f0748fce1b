"""The best features for the minutes there are: one recipe, for any number of them.

    python examples/benchmarks/minutes.py --data cifar10/ --output minutes.jsonl
    python examples/benchmarks/minutes.py --data imagenette/ --side 96 --name imagenette ...
    python examples/benchmarks/minutes.py --output minutes.jsonl --table

10,000 labeled images (or as many as there are beside the test part of 4,000, which is never looked
at). Time is that of the whole fit: dictionary, pretraining, features, and classifier. Every run
adds one line to the output; runs that are there already are skipped.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import PatchDictionary, SimCLR

from data import load_images, machine  # isort: skip
from kmeans_patches import KMeansPatches  # isort: skip

N_IMAGES, N_TEST, N_FEATURES = 10_000, 4000, 14_400


def recipe(minutes, seed, side=32):
    """A pipeline whose fit to 10,000 images takes about so many minutes of two cores.

    Images larger than 48 pixels are brought to 48 for the dictionary.
    """
    dictionary = PatchDictionary(
        n_atoms=1600,
        pool=3,
        mirror=True,
        input_size=48 if side > 48 else None,
        random_state=seed,
    )
    ridge = RidgeClassifier(alpha=1000)  # the same problem for all numbers of features
    if minutes < 3:
        return make_pipeline(dictionary, StandardScaler(), ridge)
    budget = 60 * minutes - 110  # which the rest takes
    ssl = SimCLR(
        time_budget=budget, layer=["layer2", "layer3", "layer4"], pool=3, random_state=seed
    )
    return make_pipeline(make_union(dictionary, ssl), StandardScaler(), ridge)


def flat(X):
    return X.reshape(len(X), -1).astype(np.float32)


def gradients(X):
    """HOG with cells of an eighth of the image."""
    from skimage.feature import hog

    cell = (max(2, X.shape[1] // 8), max(2, X.shape[2] // 8))
    return np.stack([hog(x, pixels_per_cell=cell, channel_axis=-1) for x in X]).astype(np.float32)


def rivals(seed):
    logistic = LogisticRegression(C=0.01, max_iter=300)
    return {
        "raw pixels": make_pipeline(FunctionTransformer(flat), StandardScaler(), logistic),
        "PCA": make_pipeline(
            FunctionTransformer(flat), PCA(100, whiten=True, random_state=seed), logistic
        ),
        "HOG": make_pipeline(FunctionTransformer(gradients), StandardScaler(), logistic),
        "400 k-means patches": make_pipeline(
            KMeansPatches(random_state=seed), StandardScaler(), logistic
        ),
    }


def run(method, pipeline, data, name, seed, side):
    images, labels = data
    order = np.random.default_rng(seed).permutation(len(images))
    n_train = min(N_IMAGES, len(images) - N_TEST)
    train, test = order[:n_train], order[n_train : n_train + N_TEST]
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        pipeline.fit(images[train], labels[train])
    seconds = time.perf_counter() - began
    return {
        "data": name,
        "method": method,
        "seed": seed,
        "n_train": n_train,
        "seconds": round(seconds, 1),
        "accuracy": pipeline.score(images[test], labels[test]),
    }


def print_table(lines):
    print("| data | method | seeds | seconds | accuracy, % |\n|---|---|---|---|---|")
    for key in dict.fromkeys((line["data"], line["method"]) for line in lines):
        found = [line for line in lines if (line["data"], line["method"]) == key]
        seconds = [line["seconds"] for line in found]
        accuracy = [100 * line["accuracy"] for line in found]
        print(
            f"| {key[0]} | {key[1]} | {len(found)} | {np.mean(seconds):.0f} | "
            f"{np.mean(accuracy):.1f} ± {np.std(accuracy):.1f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--name", default="CIFAR-10")
    parser.add_argument("--side", type=int, help="resize images to this")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("minutes.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5, 20])
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = []
    if options.output.exists():
        lines = [json.loads(line) for line in options.output.read_text().splitlines()]
    if options.table:
        print_table(lines)
        return
    print(machine())
    images, labels = load_images(options.data, options.side)
    if options.gray:
        images = images.mean(3).round().astype(np.uint8)
    done = {(line["data"], line["method"], line["seed"]) for line in lines}
    for seed in options.seeds:
        methods = {
            f"{minutes:g} min": recipe(minutes, seed, images.shape[1])
            for minutes in options.minutes
        }
        if options.rivals:
            methods |= rivals(seed)
        for method, pipeline in methods.items():
            if (options.name, method, seed) in done:
                continue
            line = run(method, pipeline, (images, labels), options.name, seed, options.side)
            with options.output.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
