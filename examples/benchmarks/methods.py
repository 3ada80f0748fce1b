"""Compare all learners at equal pretraining time, by the accuracy of a linear probe.

    python examples/benchmarks/methods.py --dataset digits --output methods.jsonl
    python examples/benchmarks/methods.py --dataset cifar10 --output methods.jsonl
    python examples/benchmarks/methods.py --dataset imagenette --data FOLDER --output methods.jsonl
    python examples/benchmarks/methods.py --output methods.jsonl --table

Each learner, with its defaults, is pretrained without labels for a fixed time on one CPU thread.
Then a multinomial logistic regression is fitted to the features of labeled images; a validation
split of these images selects layer, pooling and C. The same is done with the untrained encoder of
the same seed. Runs go in parallel, with one thread each. Each run adds one line to the output;
existing runs are skipped.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from data import cell, load_images, machine  # isort: skip


@dataclass
class Setup:
    """Settings for a dataset; ``seconds`` are on one CPU thread."""

    n_train: int
    n_test: int
    seconds: float
    seeds: tuple[int, ...]
    n_labeled: int  # training images whose labels the probe is fitted to
    side: int | None = None  # resize to squares of this side
    n_choose: int = 4000  # labeled images that select layer and pooling


SETUPS = {
    "digits": Setup(n_train=1297, n_test=500, seconds=30, seeds=(0, 1, 2), n_labeled=200),
    "cifar10": Setup(n_train=10_000, n_test=10_000, seconds=120, seeds=(0, 1, 2), n_labeled=10_000),
    "imagenette": Setup(
        n_train=3000, n_test=1000, seconds=120, seeds=(0,), n_labeled=3000, side=96, n_choose=2000
    ),
}
POOLS = ("avg", 3)
CS = (1e-3, 1e-2, 1e-1)


def load(dataset, data):
    """Return training and test images with labels; the split is the same in every run."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    setup = SETUPS[dataset]
    if dataset == "digits":
        digits = load_digits()
        X, y = digits.images.astype(np.uint8) * 15, digits.target
    else:
        X, y = load_images(data, setup.side)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=setup.n_train, test_size=setup.n_test, stratify=y, random_state=0
    )
    return X, X_test, y, y_test  # in random order, so the first images are a random sample


def make(name, **params):
    from sklearn_ssl import MultiTask, RotationPrediction, SimCLR, all_estimators

    if name == "MultiTask":
        tasks = [("simclr", SimCLR(), 1.0), ("rotation", RotationPrediction(), 0.5)]
        return MultiTask(tasks, **params)
    return dict(all_estimators())[name](**params)


def start_of(name):
    """Return the name of the first learner with the same untrained encoder."""
    from sklearn_ssl import all_estimators

    def kind(learner):
        return learner.encoder, learner._make_encoder

    learners = dict(all_estimators())
    return next(other for other in learners if kind(learners[other]) == kind(learners[name]))


def probe(C):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=100))


def evaluate(learner, X, X_test, y, y_test, n_choose):
    """Return the test accuracy with the layer, pooling and C that a validation split selects.

    Layer and pooling are selected on the first ``n_choose`` images, with the middle value of C;
    then C is selected on all images.
    """

    def validate(F, C):
        n = len(F) * 3 // 4
        return probe(C).fit(F[:n], y[:n]).score(F[n:], y[n : len(F)])

    layers = list(learner.encoder_layers())
    layers = layers[-5::2] if len(layers) > 6 else layers[-3:]
    scores = {}
    for layer, pool in itertools.product(layers, POOLS):
        features = learner.set_params(layer=layer, pool=pool).transform(X[:n_choose])
        scores[layer, pool] = validate(features, CS[1])
    layer, pool = max(scores, key=lambda choice: scores[choice])
    features = learner.set_params(layer=layer, pool=pool).transform(X)
    C = max(CS, key=lambda C: validate(features, C))
    accuracy = probe(C).fit(features, y).score(learner.transform(X_test), y_test)
    return {"layer": layer, "pool": pool, "C": C, "accuracy": accuracy}


def images_in(seconds, name, X):
    """Estimate how many images a learner trains on in this CPU time, from two extra epochs."""
    X = X[:512]
    learner = make(name, max_epochs=1, random_state=0, warm_start=True).fit(X)
    cpu = []
    for epochs in (1, 3):
        began = time.process_time()
        learner.set_params(max_epochs=epochs).fit(X)
        cpu.append(time.process_time() - began)
    return seconds * 2 * len(X) / (cpu[1] - cpu[0])


def run(dataset, folder, seconds, name, seed, random):
    """Return one line of the output."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)  # mostly about probes that lose
    setup = SETUPS[dataset]
    X, X_test, y, y_test = (np.load(Path(folder, f"{i}.npy")) for i in range(4))
    taken = 0 if random else images_in(seconds or setup.seconds, name, X)
    share = X if random else X[: max(256, math.ceil(taken))]  # all images, if time allows
    epochs = 0 if random else max(1, round(taken / len(share)))
    cpu = time.process_time()
    learner = make(name, max_epochs=epochs, random_state=seed).fit(share)
    cpu = time.process_time() - cpu
    m = setup.n_labeled
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on a Mac
    return {
        "dataset": dataset,
        "method": name,
        "seed": seed,
        "random": random,
        **evaluate(learner, X[:m], X_test, y[:m], y_test, setup.n_choose),
        "epochs": epochs * len(share) / len(X),
        "seconds": cpu,
        "peak_mib": peak / 2 ** (20 if sys.platform == "darwin" else 10),
        "history": learner.history_[-1] if epochs else None,
        "machine": machine(),
    }


def print_table(lines, dataset):
    """Print one row per method: accuracy, that of its untrained encoder, and their difference."""
    lines = [line for line in lines if line["dataset"] == dataset]
    start = {(x["method"], x["seed"]): x["accuracy"] for x in lines if x["random"]}
    rows = {}
    for line in lines:
        if not line["random"]:
            rows.setdefault(line["method"], []).append(line)
    print(
        "| learner | seeds | accuracy, % | untrained | lift | layer, pool | epochs | CPU s "
        "| peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")

    def text(values, sign=""):
        return (sign if np.mean(values) >= 0 else "") + cell(values)

    for name, runs in sorted(
        rows.items(), key=lambda row: -np.mean([r["accuracy"] for r in row[1]])
    ):
        found = 100 * np.array([r["accuracy"] for r in runs])
        before = 100 * np.array([start.get((start_of(name), r["seed"]), np.nan) for r in runs])
        where = f"{runs[0]['layer']}, {runs[0]['pool']}"
        epochs, seconds, peak = (
            np.mean([r[key] for r in runs]) for key in ("epochs", "seconds", "peak_mib")
        )
        print(
            f"| {name} | {len(runs)} | {text(found)} | {text(before)} "
            f"| {text(found - before, '+')} | {where} | {epochs:.3g} | {seconds:.0f} | {peak:.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=SETUPS, default="digits")
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--output", type=Path, default=Path("methods.jsonl"))
    parser.add_argument("--methods", nargs="*", help="default: all learners")
    parser.add_argument("--seeds", nargs="*", type=int, help="default: those of the dataset")
    parser.add_argument("--seconds", type=float, help="default: that of the dataset")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of parallel runs")
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    args = parser.parse_args()
    done = []
    if args.output.exists():
        done = [json.loads(line) for line in args.output.read_text().splitlines()]
    if args.table:
        print_table(done, args.dataset)
        return

    from sklearn_ssl import all_estimators

    known = {(x["dataset"], x["method"], x["seed"], x["random"]) for x in done}
    names = args.methods or [name for name, _ in all_estimators()]
    starts = sorted({start_of(name) for name in names})
    seeds = SETUPS[args.dataset].seeds if args.seeds is None else args.seeds
    wanted = [
        (args.dataset, name, seed, random)
        for seed in seeds
        for random, group in ((True, starts), (False, names))
        for name in group
    ]
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes to come
    pool = ProcessPoolExecutor(
        args.jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    )
    with tempfile.TemporaryDirectory() as folder, pool:
        for i, part in enumerate(load(args.dataset, args.data)):
            np.save(Path(folder, f"{i}.npy"), part)
        runs = {
            pool.submit(run, dataset, folder, args.seconds, name, seed, random): name
            for dataset, name, seed, random in wanted
            if (dataset, name, seed, random) not in known
        }
        for future in as_completed(runs):
            if error := future.exception():
                print(f"{runs[future]} failed: {error!r}", flush=True)
                continue
            line = future.result()
            with args.output.open("a") as file:
                print(json.dumps(line), file=file)
            what = "untrained " * line["random"] + line["method"]
            print(f"{what}, seed {line['seed']}: {100 * line['accuracy']:.1f} %", flush=True)


if __name__ == "__main__":
    main()
