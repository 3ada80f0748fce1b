"""CIFAR-10 accuracy by number of labels: probes, fine-tuning, and training from scratch.

    python examples/benchmarks/few_labels.py --data FOLDER --output few_labels.jsonl
    python examples/benchmarks/few_labels.py --output few_labels.jsonl --table --plot curve.png

The test set is 4,000 images. SimCLR is pretrained on all others without labels, and a few of them
are labeled. The probe is a logistic regression on the features of SimCLR, alone and combined with a
patch dictionary. All networks are small_resnets; those trained on labels use the defaults of
FineTunedClassifier. Each run adds one line to the output.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sklearn_ssl import FineTunedClassifier, LinearProbe, PatchDictionary, SimCLR

from data import add_line, cell, lines_in, load_images, standard_error  # isort: skip

N_TEST = 4000
COLUMNS = ("n_labels", "accuracy", "error")
N_LABELS = (10, 50, 250, 1000)
EPOCHS = 6  # of pretraining


def run(seed, data, memory, n_labels, methods, done, write):
    images, labels = load_images(data)
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:-N_TEST], order[-N_TEST:]
    X, y, X_test, y_test = images[train], labels[train], images[test], labels[test]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ssl = SimCLR(
            max_epochs=EPOCHS,
            layer=["layer2", "layer3", "layer4"],
            mirror=True,
            random_state=seed,
            memory=memory,
        ).fit(X)
        dictionary = PatchDictionary(n_atoms=400, mirror=True, random_state=seed).fit(X[:10_000])
        for n in n_labels:
            rows = np.arange(len(X))
            if n < len(X):
                rows, _ = train_test_split(rows, train_size=n, stratify=y, random_state=seed)

            def probed(*transformers, rows=rows):
                known, of_test = (
                    np.hstack([t.transform(part) for t in transformers])
                    for part in (X[rows], X_test)
                )
                return LinearProbe().fit(known, y[rows]).score(of_test, y_test)

            rivals = {
                "SimCLR and a probe": lambda probed=probed: probed(ssl),
                "with a dictionary": lambda probed=probed: probed(ssl, dictionary),
                "raw pixels and a probe": lambda rows=rows: (
                    LinearProbe()
                    .fit(X[rows].reshape(len(rows), -1) / 255, y[rows])
                    .score(X_test.reshape(N_TEST, -1) / 255, y_test)
                ),
                "SimCLR, fine-tuned": lambda rows=rows: (
                    FineTunedClassifier(ssl, random_state=seed)
                    .fit(X[rows], y[rows])
                    .score(X_test, y_test)
                ),
                "supervised from scratch": lambda rows=rows: (
                    FineTunedClassifier(encoder="small_resnet", random_state=seed)
                    .fit(X[rows], y[rows])
                    .score(X_test, y_test)
                ),
            }
            for name, accuracy in rivals.items():
                if (seed, n, name) not in done and name in (methods or rivals):
                    write({"seed": seed, "n_labels": n, "method": name, "accuracy": accuracy()})


def print_table(lines, plot):
    names = list(dict.fromkeys(line["method"] for line in lines))
    print(f"| labels | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    rows = []
    for n in N_LABELS:
        cells = []
        for name in names:
            found = [
                100 * v["accuracy"] for v in lines if (v["n_labels"], v["method"]) == (n, name)
            ]
            if not found:
                continue
            cells.append(cell(found))
            rows.append(
                {
                    "method": name,
                    "n_labels": n,
                    "accuracy": np.mean(found),
                    "error": standard_error(found),
                }
            )
        if cells:
            print(f"| {n:,} | {' | '.join(cells)} |")
    if plot:
        draw(rows, plot)


def draw(rows, path):
    from matplotlib.figure import Figure

    figure = Figure((7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        axes.errorbar(*([row[key] for row in mine] for key in COLUMNS), marker="o", label=name)
    axes.set(xscale="log", xlabel="labels", ylabel="accuracy, %")
    axes.set_xticks(N_LABELS, [f"{n:,}" for n in N_LABELS])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--output", type=Path, default=Path("few_labels.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, nargs="*", default=N_LABELS)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--memory", help="a folder that caches pretraining runs")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--plot")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines, options.plot)
        return

    def write(line):
        add_line(options.output, line)

    done = {(line["seed"], line["n_labels"], line["method"]) for line in lines}
    for seed in options.seeds:
        run(seed, options.data, options.memory, options.labels, options.methods, done, write)


if __name__ == "__main__":
    main()
