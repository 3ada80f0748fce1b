"""Measure what you can get in 1, 5 or 20 minutes: one recipe for any number of minutes.

    python examples/benchmarks/minutes.py --data cifar10/ --output minutes.jsonl
    python examples/benchmarks/minutes.py --data imagenette/ --side 96 --name Imagenette ...
    python examples/benchmarks/minutes.py --output minutes.jsonl --table
    pip install kymatio "scipy<1.17"  # for --rivals scattering

The test set is a fifth of the images, at most 4,000, or, with --test, the official one. It is the
same in every run, and no choice of the recipe was based on it; 2,000 of CIFAR-10's served to choose
how KernelProbe chooses its parameters. For each seed, at most 10,000 of the other images are drawn
and labeled; all of them serve for pretraining. Time is that of the whole fit: dictionary,
pretraining, features and classifier, which is KernelProbe for all features. Networks trained on
labels alone get the same time. Each run adds one line to the output; existing runs are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import FineTunedClassifier, KernelProbe, PatchDictionary, SimCLR, Views

from data import add_line, cell, lines_in, load_images  # isort: skip
from kmeans_patches import KMeansPatches  # isort: skip

N_LABELED, N_TEST = 10_000, 4000
REST = 100  # seconds on two cores for everything but pretraining, with 10,000 labels


def recipe(minutes, seed, side, unlabeled):
    """Make a transformer, with standardized features, for about this many minutes.

    It is a patch dictionary, which captures texture and parts; from 3 minutes on, it is combined
    with three layers of SimCLR, which captures what the image shows, and from 15 minutes on, SimCLR
    uses larger views. Features are averaged over an image and its mirror image.
    """
    dictionary = PatchDictionary(
        n_atoms=1600,
        patch_size=8,
        mirror=True,
        input_size=48 if side > 48 else None,
        random_state=seed,
    )
    dictionary = make_pipeline(dictionary, StandardScaler())
    if minutes < 3:
        return dictionary
    ssl = SimCLR(
        time_budget=60 * minutes - REST,
        views=Views(size=side // 2 if minutes < 15 else side * 5 // 8),
        layer=["layer2", "layer3", "layer4"],
        mirror=True,
        random_state=seed,
    )
    ssl = make_pipeline(FrozenEstimator(ssl.fit(unlabeled)), StandardScaler())
    return FeatureUnion(
        [("dictionary", dictionary), ("ssl", ssl)], transformer_weights={"ssl": 2.0}
    )


def flat(X):
    return X.reshape(len(X), -1).astype(np.float32)


def gradients(X):
    """Compute HOG with cells of an eighth of the image."""
    from skimage.feature import hog

    cell = (max(2, X.shape[1] // 8), max(2, X.shape[2] // 8))
    return np.stack([hog(x, pixels_per_cell=cell, channel_axis=-1) for x in X]).astype(np.float32)


def scattered(X):
    """Compute wavelet scattering of order 2, on a grid of 6 x 6 to 8 x 8."""
    from kymatio.torch import Scattering2D

    scattering = Scattering2D(J=int(np.log2(X.shape[1] / 6)), shape=X.shape[1:3])
    found = []
    for chunk in torch.from_numpy(X).permute(0, 3, 1, 2).split(64):
        found.append(scattering(chunk.float().div(255).contiguous()).flatten(1))
    return torch.cat(found).numpy()


def rivals(seed):
    """Make pipelines of the rivals' features and the classifier of the recipe."""
    features = {
        "raw pixels": FunctionTransformer(flat),
        "PCA": make_pipeline(FunctionTransformer(flat), PCA(100, random_state=seed)),
        "HOG": FunctionTransformer(gradients),
        "1,600 k-means patches": KMeansPatches(1600, mirror=True, random_state=seed),
        "scattering": FunctionTransformer(scattered),
    }
    return {
        name: make_pipeline(each, StandardScaler(), KernelProbe())
        for name, each in features.items()
    }


def split(n, seed, official):
    """Return the rows of labeled images, of all training images, and of test images."""
    if official:  # the test images come last
        seen, test = np.arange(n - official), np.arange(n - official, n)
        return np.random.default_rng(seed).permutation(seen)[:N_LABELED], seen, test
    order = np.random.default_rng(2026).permutation(n)
    n_test = min(N_TEST, n // 5)
    seen, test = order[:-n_test], order[-n_test:]
    return np.random.default_rng(seed).permutation(seen)[:N_LABELED], seen, test


def run_recipe(minutes, seed, images, labels, official):
    train, seen, test = split(len(images), seed, official)
    began = time.perf_counter()
    features = recipe(minutes, seed, images.shape[1], images[seen])
    probe = KernelProbe().fit(features.fit_transform(images[train]), labels[train])
    seconds = time.perf_counter() - began
    return seconds, probe.score(features.transform(images[test]), labels[test])


def run_classifier(classifier, seed, images, labels, official):
    train, _, test = split(len(images), seed, official)
    began = time.perf_counter()
    classifier.fit(images[train], labels[train])
    seconds = time.perf_counter() - began
    return seconds, classifier.score(images[test], labels[test])


def print_table(lines):
    print("| data | method | seeds | seconds | accuracy, % |\n|---|---|---|---|---|")
    for key in dict.fromkeys((line["data"], line["method"]) for line in lines):
        found = [line for line in lines if (line["data"], line["method"]) == key]
        seconds = [line["seconds"] for line in found]
        accuracy = [100 * line["accuracy"] for line in found]
        print(f"| {key[0]} | {key[1]} | {len(found)} | {np.mean(seconds):.0f} | {cell(accuracy)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--test", help="a zip or folder of the official test images")
    parser.add_argument("--name", default="CIFAR-10")
    parser.add_argument("--side", type=int, help="resize images to this side")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("minutes.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5, 20])
    parser.add_argument("--supervised", type=float, nargs="*", default=[])
    parser.add_argument("--rivals", nargs="*", help="default: none; without names: all")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    images, labels = load_images(options.data, options.side)
    official = 0
    if options.test:
        official_images, official_labels = load_images(options.test, options.side)
        official = len(official_labels)
        images = np.concatenate([images, official_images])
        labels = np.concatenate([labels, official_labels])
    if options.gray:
        images = images.mean(3, keepdims=True).round().astype(np.uint8)
    done = {(line["data"], line["method"], line["seed"]) for line in lines}
    for seed in options.seeds:
        runs = {f"{m:g} min": (run_recipe, m) for m in options.minutes}
        runs |= {
            f"supervised, {m:g} min": (
                run_classifier,
                FineTunedClassifier(encoder="small_resnet", time_budget=60 * m, random_state=seed),
            )
            for m in options.supervised
        }
        if options.rivals is not None:
            runs |= {
                name: (run_classifier, rival)
                for name, rival in rivals(seed).items()
                if name in (options.rivals or [name])
            }
        for method, (run, what) in runs.items():
            if (options.name, method, seed) in done:
                continue
            seconds, accuracy = run(what, seed, images, labels, official)
            line = {
                "data": options.name,
                "method": method,
                "seed": seed,
                "seconds": round(seconds, 1),
                "accuracy": accuracy,
            }
            add_line(options.output, line)


if __name__ == "__main__":
    main()
