"""Find the best learning rate and view size for fine-tuning, with 50 to 10,000 labels.

    python examples/benchmarks/fine_tuning.py --data cifar10/ --output fine_tuning.jsonl
    python examples/benchmarks/fine_tuning.py --output fine_tuning.jsonl --table

A SimCLR pretrained on 20,000 images is fine-tuned with the defaults of FineTunedClassifier, except
for the learning rate and the view size, and scored on 3,000 validation images. Each run adds one
line to the output; existing runs are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from sklearn_ssl import FineTunedClassifier, SimCLR, Views

from data import add_line, lines_in, load_images  # isort: skip

N_VALIDATION, N_PRETRAINED = 3000, 20_000
N_LABELS, RATES, SIDES = (50, 250, 1000, 5000, 10_000), (5e-4, 1e-3, 2e-3), (16, 32)


def run(data, seed, runs, write):
    images, labels = load_images(data)
    order = np.random.default_rng(100 + seed).permutation(len(images))
    validation, pool = order[:N_VALIDATION], order[N_VALIDATION:]
    ssl = SimCLR(max_epochs=8, views=Views(size=20), random_state=seed)
    ssl.fit(images[pool[:N_PRETRAINED]])
    for n, lr, side in runs:
        views = Views(size=side, crop_scale=(0.3, 1.0), jitter=None, gray=0, blur=0)
        tuned, began = FineTunedClassifier(ssl, lr=lr, views=views, random_state=seed), time.time()
        tuned.fit(images[pool[:n]], labels[pool[:n]])
        accuracy = tuned.score(images[validation], labels[validation])
        line = {"seed": seed, "n_labels": n, "lr": lr, "side": side, "accuracy": accuracy}
        write({**line, "seconds": round(time.time() - began)})


def print_table(lines):
    columns = [(side, lr) for side in SIDES for lr in RATES]
    print(f"| labels | {' | '.join(f'{side} px, lr {lr:g}' for side, lr in columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for n in N_LABELS:
        cells = []
        for side, lr in columns:
            found = [
                v["accuracy"] for v in lines if (v["n_labels"], v["side"], v["lr"]) == (n, side, lr)
            ]
            cells.append(f"{100 * np.mean(found):.1f}" if found else "")
        print(f"| {n:,} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--output", type=Path, default=Path("fine_tuning.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return

    def write(line):
        add_line(options.output, line)

    done = {(v["seed"], v["n_labels"], v["lr"], v["side"]) for v in lines}
    runs = [(n, lr, side) for n in N_LABELS for lr in RATES for side in SIDES]
    runs = [run for run in runs if (options.seed, *run) not in done]
    if runs:
        run(options.data, options.seed, runs, write)


if __name__ == "__main__":
    main()
