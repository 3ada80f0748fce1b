"""Can measures without labels tell which features are good? Rank correlations with a probe.

    python examples/benchmarks/measures.py --dataset cifar10 --data FOLDER --output measures.jsonl
    python examples/benchmarks/measures.py --output measures.jsonl --table

Learners are pretrained with random settings (learning rate, batch size, strength of crops and
colors, number of epochs). Measures are computed on held-out images; the probe is a multinomial
logistic regression, fitted to labeled training images and tested on the held-out ones. Each run
adds a line to the output; existing runs are skipped.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssl import BYOL, DenoisingAutoencoder, LinearProbe, SimCLR, VICReg
from sklearn_ssl.metrics import (
    alignment_scorer,
    alpha_req_scorer,
    lidar_scorer,
    pretext_loss_scorer,
    rank_me_scorer,
    uniformity_scorer,
)

from data import add_line, lines_in, load_images  # isort: skip

LEARNERS = {c.__name__: c for c in (SimCLR, BYOL, VICReg, DenoisingAutoencoder)}
N_SETTINGS = 12
N_TRAIN, N_TEST = 4000, 1500
SIDES = {"cifar10": 32, "imagenette": 48}
SCORERS = {
    "RankMe": rank_me_scorer,
    "alpha-ReQ": alpha_req_scorer,
    "LiDAR": lidar_scorer,
    "alignment": alignment_scorer,
    "uniformity": uniformity_scorer,
    "pretext loss": pretext_loss_scorer,
}
FEATURES = {"layer3, 3 x 3": ("layer3", 3)}


def settings():
    """Draw the settings, the same for all learners."""
    rng = np.random.default_rng(0)
    return [
        {
            "lr": float(10 ** rng.uniform(-3.7, -1.7)),
            "batch_size": int(rng.choice([64, 128, 256])),
            "crop": float(rng.choice([0.1, 0.3, 0.6])),
            "jitter": float(rng.choice([0.0, 0.4, 0.8])),
            "max_epochs": int(rng.choice([1, 2, 4])),
        }
        for _ in range(N_SETTINGS)
    ]


def make(name, setting, seed):
    strength = setting["jitter"]
    views = {
        "views__crop_scale": (setting["crop"], 1.0),
        "views__jitter": (strength, strength, strength, strength / 4) if strength else None,
        "views__size": 16,
    }
    rest = {key: setting[key] for key in ("lr", "batch_size", "max_epochs")}
    return LEARNERS[name]().set_params(**rest, **views, random_state=seed)


def split(dataset, data):
    images, labels = load_images(data, SIDES[dataset])
    order = np.random.default_rng(0).permutation(len(images))[: N_TRAIN + N_TEST]
    train, test = np.split(order, [len(order) * N_TRAIN // (N_TRAIN + N_TEST)])
    return images[train], labels[train], images[test], labels[test]


def run(dataset, name, number, data):
    X, y, X_test, y_test = data
    began = time.perf_counter()
    learner = make(name, settings()[number], seed=number).fit(X)
    line = {"dataset": dataset, "method": name, "setting": number, **settings()[number]}
    line["seconds"] = round(time.perf_counter() - began, 1)
    line["train loss"] = -learner.history_[-1]["train_loss"]
    for label, (layer, pool) in FEATURES.items():
        learner.set_params(layer=layer, pool=pool)
        probe = LinearProbe()
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            probe.fit(learner.transform(X), y)
        line[label] = {"probe": probe.score(learner.transform(X_test), y_test)}
        for measure, scorer in SCORERS.items():
            line[label][measure] = float(scorer(learner, X_test))
    return line


def print_table(lines):
    for dataset in dict.fromkeys(line["dataset"] for line in lines):
        for label in FEATURES:
            print(f"\n{dataset}, {label}\n")
            mine = [line for line in lines if line["dataset"] == dataset]
            names = list(dict.fromkeys(line["method"] for line in mine))
            print(f"| measure | {' | '.join(names)} | mean | all runs |")
            print("|---" * (len(names) + 3) + "|")
            for measure in (*SCORERS, "train loss"):
                by_method = [
                    correlation([line for line in mine if line["method"] == name], label, measure)
                    for name in names
                ]
                shown = [f"{rho:.2f}" for rho in (*by_method, np.mean(by_method))]
                print(
                    f"| {measure} | {' | '.join(shown)} | {correlation(mine, label, measure):.2f} |"
                )
            probes = [[line[label]["probe"] for line in mine if line["method"] == n] for n in names]
            spans = [f"{100 * min(p):.1f} to {100 * max(p):.1f}" for p in probes]
            print(f"| probe, % | {' | '.join(spans)} | | |")


def correlation(lines, label, measure):
    values = [line[label].get(measure, line.get(measure)) for line in lines]
    return spearmanr(values, [line[label]["probe"] for line in lines]).statistic


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=list(SIDES), default="cifar10")
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--output", type=Path, default=Path("measures.jsonl"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    done = {(line["dataset"], line["method"], line["setting"]) for line in lines}
    data = split(options.dataset, options.data)
    for number in range(N_SETTINGS):
        for name in LEARNERS:
            if (options.dataset, name, number) not in done:
                line = run(options.dataset, name, number, data)
                add_line(options.output, line)


if __name__ == "__main__":
    main()
