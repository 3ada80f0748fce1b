"""What the features are worth: linear probes on CIFAR-10 with 10,000 labels.

    python examples/benchmarks/cifar10.py --output cifar10.jsonl
    python examples/benchmarks/cifar10.py --output cifar10.jsonl --table

The training set is split once: 10,000 images are held out as test set, 10,000 have labels (2,000 of
them choose layer, pooling and C), and all but the test images are there to pretrain on. Each
learner runs with its defaults for as many epochs as fit ``--seconds`` on this machine. Every run
adds one line to the output; runs that are there already are skipped.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from data import cell, load_images, machine
from kmeans_patches import KMeansPatches
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ssl import CPC, DenoisingAutoencoder, RotationPrediction, SimCLR

LEARNERS = {cls.__name__: cls for cls in (SimCLR, CPC, DenoisingAutoencoder, RotationPrediction)}
LAYERS = ("layer2", "layer3", "layer4")
POOLS = ("avg", 3)
CS = (1e-3, 1e-2)


class Split:
    """Pretraining images, labeled images for fitting and for choosing, and test images."""

    def __init__(self, X, y, n_labeled=10_000, n_test=10_000, seed=0):
        self.pretrain, test, rest, y_test = train_test_split(
            X, y, test_size=n_test, stratify=y, random_state=seed
        )
        labeled, _, y_labeled, _ = train_test_split(
            self.pretrain, rest, train_size=n_labeled, stratify=rest, random_state=seed
        )
        self.labeled, self.y = labeled, y_labeled
        self.test, self.y_test = test, y_test
        self.fit, self.choose = train_test_split(
            np.arange(len(labeled)), test_size=0.2, stratify=y_labeled, random_state=seed
        )


def probe(C):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=200))


def choose_C(F, split):
    """The best C on the validation part, and its accuracy there."""
    fit, choose, y = split.fit, split.choose, split.y
    scores = {C: probe(C).fit(F[fit], y[fit]).score(F[choose], y[choose]) for C in CS}
    best = max(scores, key=lambda C: scores[C])
    return best, scores[best]


def evaluate(transform, variants, split):
    """Test accuracy of the variant and C that are best on the validation part."""
    chosen = {}
    for variant in variants:
        F = transform(split.labeled, variant)
        C, score = choose_C(F, split)
        chosen[variant] = (score, C)
    variant = max(chosen, key=lambda v: chosen[v])
    score, C = chosen[variant]
    F, F_test = transform(split.labeled, variant), transform(split.test, variant)
    accuracy = probe(C).fit(F, split.y).score(F_test, split.y_test)
    return {"variant": list(variant), "C": C, "validation": score, "accuracy": accuracy}


def flat(images):
    return images.reshape(len(images), -1) / np.float32(255)


def run_baseline(name, split, seed):
    steps = {
        "raw pixels": FunctionTransformer(),
        "PCA": PCA(200, whiten=True, random_state=seed),
        "k-means patches": KMeansPatches(400, random_state=seed),
    }
    step: BaseEstimator | TransformerMixin = steps[name]
    began = time.perf_counter()
    images = split.pretrain if name == "k-means patches" else flat(split.pretrain)
    step.fit(images)
    seconds = time.perf_counter() - began

    def transform(X, variant):
        return step.transform(X if name == "k-means patches" else flat(X))

    return evaluate(transform, [()], split) | {"seconds": seconds}


def images_in(seconds, Learner, X):
    """How many images can be seen in the time; long fits are about a tenth slower than short."""
    trial = Learner(max_epochs=2, random_state=0).fit(X[: 16 * 128])
    return int(0.9 * seconds * trial.history_[-1]["images_per_second"])


def run_learner(Learner, split, seed, n_seen):
    """Pretrain on ``n_seen`` images, in whole passes over all or one pass over some."""
    epochs, n = n_seen // len(split.pretrain), len(split.pretrain)
    if n_seen and not epochs:
        epochs, n = 1, n_seen
    learner = Learner(max_epochs=epochs, random_state=seed)
    cpu = time.process_time()
    learner.fit(split.pretrain[:n])
    cpu = time.process_time() - cpu

    def transform(X, variant):
        layer, pool = variant
        return learner.set_params(layer=layer, pool=pool).transform(X)

    variants = [(layer, pool) for layer in LAYERS for pool in POOLS]
    return evaluate(transform, variants, split) | {
        "epochs": round(epochs * n / len(split.pretrain), 2),
        "seconds": sum(row["seconds"] for row in learner.history_),
        "cpu_seconds": cpu,
        "history": learner.history_[-1] if epochs else None,
    }


def print_table(lines):
    """One row a method: mean of the accuracy over seeds, and its standard error."""
    print("| method | test accuracy, % | seeds | layer, pool (seed 0) | epochs | seconds to fit |")
    print("|---|---|---|---|---|---|")
    rows: dict[str, list[dict]] = {}
    for line in lines:
        rows.setdefault(line["method"], []).append(line)
    for method, runs in sorted(rows.items(), key=lambda row: -row[1][0]["accuracy"]):
        scores = 100 * np.array([run["accuracy"] for run in runs])
        where = ", ".join(map(str, runs[0]["variant"]))
        epochs = runs[0].get("epochs", "")
        seconds = np.mean([run["seconds"] for run in runs])
        print(f"| {method} | {cell(scores)} | {len(runs)} | {where} | {epochs} | {seconds:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--output", type=Path, default=Path("cifar10.jsonl"))
    parser.add_argument("--methods", nargs="*", help="learners and baselines; default: all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=300, help="pretraining time of a learner")
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    args = parser.parse_args()
    done = []
    if args.output.exists():
        done = [json.loads(line) for line in args.output.read_text().splitlines()]
    if args.table:
        print_table(done)
        return

    methods = args.methods or [
        "raw pixels", "PCA", "k-means patches", "SimCLR, random encoder", "CPC, random encoder",
        *LEARNERS,
    ]  # fmt: skip
    split = Split(*load_images(args.data))
    n_seen: dict[str, int] = {}
    for seed, method in itertools.product(args.seeds, methods):
        name, _, random = method.partition(", ")
        known = any((line["method"], line["seed"]) == (method, seed) for line in done)
        if known or (name not in LEARNERS and seed != args.seeds[0]):
            continue
        if name not in LEARNERS:
            result = run_baseline(name, split, seed)
        elif random:
            result = run_learner(LEARNERS[name], split, seed, 0)
        else:
            if name not in n_seen:
                n_seen[name] = images_in(args.seconds, LEARNERS[name], split.pretrain)
            result = run_learner(LEARNERS[name], split, seed, n_seen[name])
        line = {"method": method, "seed": seed, **result, "machine": machine()}
        with args.output.open("a") as file:
            print(json.dumps(line), file=file)
        print(f"{method}, seed {seed}: {100 * result['accuracy']:.1f} %", line, flush=True)


if __name__ == "__main__":
    main()
