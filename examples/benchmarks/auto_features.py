"""Compare AutoFeatures with each of its parts alone, and measure how well it keeps its time.

    python examples/benchmarks/auto_features.py --data cifar10/ --output auto_features.jsonl
    python examples/benchmarks/auto_features.py --data hands/ --side 64 --name hands ...
    python examples/benchmarks/auto_features.py --digits ...
    python examples/benchmarks/auto_features.py --output auto_features.jsonl --table
    python examples/benchmarks/auto_features.py --data cifar10/ --times 30 60 300

The test set is a fifth of the images, at most 4,000, the same in every run. Of the other images,
some are labeled, drawn for each seed, at most 10,000; all of them serve for pretraining. Each
method has the time for everything but imports, a KernelProbe on its features included; those that
need less end earlier. "frozen weights" is MobileNetV2 with torchvision's ImageNet weights, at 224
pixels, which takes the time that it takes. "supervised" is a network trained on the labels alone,
"classifier" a SelfSupervisedClassifier, which averages features and network. "linear" is a
LinearProbe on the features of AutoFeatures, outside of the time. Each run adds one line to the
output; existing runs are skipped.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.base import is_classifier
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import (
    AutoFeatures,
    KernelProbe,
    LinearProbe,
    PixelFeatures,
    PretrainedEncoder,
    SelfSupervisedClassifier,
)
from sklearn_ssl.auto._plan import make_dictionary, make_learner, measured
from sklearn_ssl.fine_tuning import quick_classifier

from data import add_line, cell, lines_in, load_images  # isort: skip
from minutes import gradients  # isort: skip
from weights import find_weights  # isort: skip

N_TEST, MOST_LABELS = 4000, 10_000
PARTS = ("dictionary", "learner", "HOG", "pixels")
NAMES = ("AutoFeatures", *PARTS, "supervised", "classifier", "frozen weights")


def methods(images, n_rows, minutes, seed):
    """Make the transformers that are compared, by name; they encode so many images in the time."""
    shape, seconds = images.shape[1:], 60 * minutes
    speeds, mirror = measured(images, {}, seconds)
    for n_atoms in (1600, 1200, 800, 600, 400, 200, 100):
        dictionary = make_dictionary(shape, n_atoms=n_atoms, mirror=mirror, random_state=seed)
        taken = speeds.of_dictionary(dictionary, len(images), n_rows)
        if taken + speeds.of_kernel(n_rows, 9 * n_atoms) <= seconds:
            break
    left = seconds - speeds.of_kernel(n_rows, 4000)
    encoder = speeds.encoder_for(left, len(images))
    left -= n_rows * speeds.encoding[encoder] * (1 + mirror)
    passes = left / speeds.training[encoder] / len(images)
    learner = make_learner(shape, encoder, passes >= 15, mirror=mirror, random_state=seed)
    learner.set_params(time_budget=max(left, seconds / 4))
    return {
        "AutoFeatures": None,
        "dictionary": dictionary,
        "learner": learner,
        "HOG": FunctionTransformer(gradients),
        "pixels": PixelFeatures(),
        "supervised": quick_classifier(
            flip=mirror / 2, mirror=mirror, time_budget=seconds, random_state=seed
        ),
        "classifier": SelfSupervisedClassifier(time_budget=seconds, random_state=seed),
        "frozen weights": PretrainedEncoder(encoder="mobilenet_v2", weights="IMAGENET1K_V1"),
    }


def run(features, minutes, seed, images, labels, n_labels):
    """Return seconds, accuracy, accuracy of a linear probe, and what AutoFeatures chose."""
    order = np.random.default_rng(2026).permutation(len(images))
    n_test = min(N_TEST, len(images) // 5)
    seen, test = order[:-n_test], order[-n_test:]
    drawn = np.random.default_rng(seed).permutation(len(seen))[:n_labels]
    y = np.full(len(seen), -1)
    y[drawn] = labels[seen[drawn]]
    few, began = (images[seen[drawn]], labels[seen[drawn]]), time.perf_counter()
    if features is None:
        method = SelfSupervisedClassifier(
            time_budget=60 * minutes, fine_tune=False, random_state=seed
        )
        method.fit(images[seen], y)
        features, probe = method.learner_, method.head_
    elif is_classifier(features):
        is_whole = isinstance(features, SelfSupervisedClassifier)
        features.fit(*((images[seen], y) if is_whole else few))
        seconds = time.perf_counter() - began
        accuracy = features.score(images[test], labels[test])
        line = {"seconds": round(seconds, 1), "accuracy": accuracy}
        if is_whole:
            line["weight_of_network"] = round(getattr(features, "network_weight_", 0.0), 2)
        return line
    else:  # scales are learned from as many images as in AutoFeatures
        scaler = StandardScaler().fit(features.fit(images[seen]).transform(images[seen[:2000]]))
        features = make_pipeline(FrozenEstimator(features), FrozenEstimator(scaler))
        probe = KernelProbe().fit(features.fit_transform(*few), few[1])
    seconds = time.perf_counter() - began
    found = features.transform(images[test])
    accuracy = probe.score(found, labels[test])
    linear = LinearProbe().fit(features.transform(few[0]), few[1]).score(found, labels[test])
    line = {"seconds": round(seconds, 1), "accuracy": accuracy, "linear": linear}
    if isinstance(features, AutoFeatures):
        line["weights"] = {name: round(w, 2) for name, w in features.weights_.items()}
    return line


def read_images(path, digits, side):
    """Return scikit-learn's digits, or the images of a zip or folder, and labels."""
    if not digits:
        return load_images(path, side)
    images, labels = load_digits(return_X_y=True)
    return (16 * images.reshape(-1, 8, 8, 1)).clip(0, 255).astype(np.uint8), labels


def print_times(options, images):
    """Print the time that AutoFeatures takes, for an array and for a folder of files."""
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(Path(folder, f"{i:06d}.png"))
        print("| asked, s | array, fit | array, fit_transform | folder, fit |\n|---|---|---|---|")
        for seconds in options.times:
            row = [f"{seconds:g}"]
            for X, method in ((images, "fit"), (images, "fit_transform"), (folder, "fit")):
                auto = AutoFeatures(seconds, random_state=0)
                began = time.perf_counter()
                getattr(auto, method)(X)
                row.append(f"{time.perf_counter() - began:.1f}")
            print(f"| {' | '.join(row)} |", flush=True)


def print_table(lines):
    """Print the mean over seeds of each method, and how far AutoFeatures is from its best part."""
    names = [name for name in NAMES if any(line["method"] == name for line in lines)]
    print(f"| data | minutes | labels | {' | '.join(names)} | to the best part | linear |")
    print("|" + "---|" * (len(names) + 5))
    differences = []
    for key in dict.fromkeys((line["data"], line["minutes"], line["n_labels"]) for line in lines):
        found = [n for n in lines if (n["data"], n["minutes"], n["n_labels"]) == key]
        of_each = {
            name: [100 * n["accuracy"] for n in found if n["method"] == name] for name in names
        }
        best = max(np.mean(of_each[name]) for name in PARTS if of_each.get(name))
        differences.append(np.mean(of_each["AutoFeatures"]) - best)
        cells = [cell(values) if values else "" for values in of_each.values()]
        linear = cell([100 * n["linear"] for n in found if n["method"] == "AutoFeatures"])
        print(
            f"| {key[0]} | {key[1]:g} | {key[2]:,} | {' | '.join(cells)} "
            f"| {differences[-1]:+.1f} | {linear} |"
        )
    print(
        f"\nAutoFeatures is {np.mean(differences):+.1f} points from its best part on average, "
        f"{min(differences):+.1f} to {max(differences):+.1f}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--digits", action="store_true", help="scikit-learn's 8 x 8 digits")
    parser.add_argument("--name", default="CIFAR-10")
    parser.add_argument("--side", type=int, help="resize images to this side")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("auto_features.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5, 20])
    parser.add_argument("--labels", type=int, nargs="*", default=[50, 1000, MOST_LABELS])
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--times", type=float, nargs="*", help="seconds; print the time taken")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    find_weights()
    images, labels = read_images(options.data, options.digits, options.side)
    if options.digits:
        options.name = "digits"
    if options.gray:
        images = images.mean(3, keepdims=True).round().astype(np.uint8)
    if options.times is not None:
        print_times(options, images)
        return
    n_seen = len(images) - min(N_TEST, len(images) // 5)
    names = ("data", "method", "minutes", "n_labels", "seed")
    done = {tuple(line[name] for name in names) for line in lines}
    for minutes in options.minutes:
        for n_labels in dict.fromkeys(min(n, n_seen) for n in options.labels):
            for seed in options.seeds:
                keys = [(options.name, name, minutes, n_labels, seed) for name in NAMES]
                if done.issuperset(keys):
                    continue
                n_rows = n_labels + 2000
                compared = methods(images[:n_seen], n_rows, minutes, seed)
                for key, (method, features) in zip(keys, compared.items(), strict=True):
                    if key in done or method not in (options.methods or [method]):
                        continue
                    found = run(features, minutes, seed, images, labels, n_labels)
                    add_line(options.output, {**dict(zip(names, key, strict=True)), **found})


if __name__ == "__main__":
    main()
