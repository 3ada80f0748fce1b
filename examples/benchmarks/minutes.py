"""Measure what you can get in 1, 5 or 20 minutes, by one line, and by rivals in the same time.

    python examples/benchmarks/minutes.py --data cifar10/ --output minutes.jsonl
    python examples/benchmarks/minutes.py --data imagenette/ --side 96 --name Imagenette ...
    python examples/benchmarks/minutes.py --output minutes.jsonl --table
    pip install kymatio "scipy<1.17"  # for --rivals scattering

The test set is a fifth of the images, at most 4,000, or, with --test, the official one. It is the
same in every run, and no choice was based on it; 2,000 of CIFAR-10's served to choose how
KernelProbe chooses its parameters. For each seed, at most 10,000 of the other images (--labels) are
drawn and labeled; all of them serve for pretraining. Seconds are those of the whole fit: features
and classifier. Methods:

- features: SelfSupervisedClassifier with frozen features and the head that it chooses
- linear: a LinearProbe on the same features, outside of the time
- both: SelfSupervisedClassifier that also trains a network on the labels
- supervised: a network trained on the labels alone, with the same settings as the one in "both"

Rivals' features have the classifier that "features" chooses, KernelProbe. Each run adds one line to
the output; existing runs are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import (
    KernelProbe,
    LinearProbe,
    SelfSupervisedClassifier,
)
from sklearn_ssl.fine_tuning import quick_classifier

from data import add_line, cell, lines_in, load_images  # isort: skip
from kmeans_patches import KMeansPatches  # isort: skip

N_TEST = 4000


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


def split(n, seed, official, n_labels):
    """Return the rows of labeled images, of all training images, and of test images."""
    if official:  # the test images come last
        seen, test = np.arange(n - official), np.arange(n - official, n)
        return np.random.default_rng(seed).permutation(seen)[:n_labels], seen, test
    order = np.random.default_rng(2026).permutation(n)
    n_test = min(N_TEST, n // 5)
    seen, test = order[:-n_test], order[-n_test:]
    return np.random.default_rng(seed).permutation(seen)[:n_labels], seen, test


METHODS = ("features", "both", "supervised")


def methods(minutes, seed):
    """Make the classifiers that get so many minutes."""
    budget = {"time_budget": 60 * minutes, "random_state": seed}
    return {
        "features": SelfSupervisedClassifier(fine_tune=False, **budget),
        "both": SelfSupervisedClassifier(fine_tune=True, **budget),
        "supervised": quick_classifier(mirror=True, **budget),
    }


def run(classifier, rows, images, labels):
    """Return seconds, accuracy, and that of a linear probe on frozen features if there are any."""
    train, seen, test = rows
    X, y = images[train], labels[train]
    if isinstance(classifier, SelfSupervisedClassifier):
        is_labeled = np.isin(seen, train)
        X, y = images[seen], np.where(is_labeled, labels[seen], -1)
    began = time.perf_counter()
    classifier.fit(X, y)
    seconds = time.perf_counter() - began
    accuracy, linear = classifier.score(images[test], labels[test]), None
    if isinstance(classifier, SelfSupervisedClassifier) and not classifier.fine_tune:
        features = classifier.learner_.transform
        probe = LinearProbe().fit(features(images[train]), labels[train])
        linear = probe.score(features(images[test]), labels[test])
    return seconds, accuracy, linear


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
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--labels", type=int, default=10_000)
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
    name = options.name + (f", {options.labels:,} labels" if options.labels != 10_000 else "")
    done = {(line["data"], line["method"], line["seed"]) for line in lines}
    for seed in options.seeds:
        rows = split(len(images), seed, official, options.labels)
        classifiers = {
            f"{method}, {m:g} min": methods(m, seed)[method]
            for m in options.minutes
            for method in options.methods
        }
        if options.rivals is not None:
            known = rivals(seed)
            classifiers |= {n: known[n] for n in known if n in (options.rivals or known)}
        for method, classifier in classifiers.items():
            twin = method.replace("features", "linear")  # of the same fit
            if {(name, method, seed), (name, twin, seed)} <= done:
                continue
            seconds, accuracy, linear = run(classifier, rows, images, labels)
            line = {"data": name, "method": method, "seed": seed, "seconds": round(seconds, 1)}
            if (name, method, seed) not in done:
                add_line(options.output, line | {"accuracy": accuracy})
            if linear is not None and (name, twin, seed) not in done:
                add_line(options.output, line | {"method": twin, "accuracy": linear})


if __name__ == "__main__":
    main()
