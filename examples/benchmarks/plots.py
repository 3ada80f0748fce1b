"""Plot the benchmarks from the runs in the folder of this script.

python examples/benchmarks/plots.py --output docs/images/
"""

import argparse
from pathlib import Path

import numpy as np
from data import lines_in, standard_error
from matplotlib.figure import Figure
from methods import start_of

HERE = Path(__file__).parent
TITLES = {"cifar10": "CIFAR-10", "digits": "digits", "imagenette": "Imagenette"}


def accuracies(lines, **of):
    """Return the accuracies, in %, of the runs with these values."""
    return [
        100 * line["accuracy"]
        for line in lines
        if all(line[key] == value for key, value in of.items())
    ]


def methods():
    """Plot each learner before and after training, with the best on CIFAR-10 at the top."""
    lines = lines_in(HERE / "methods.jsonl")
    names = {line["method"] for line in lines}
    trained = {"dataset": "cifar10", "random": False}
    order = sorted(names, key=lambda name: np.mean(accuracies(lines, method=name, **trained)))
    figure = Figure((11, 7), layout="constrained")
    for axes, (dataset, title) in zip(
        figure.subplots(1, 3, sharey=True), TITLES.items(), strict=True
    ):
        for row, name in enumerate(order):
            start = accuracies(lines, dataset=dataset, method=start_of(name), random=True)
            end = accuracies(lines, dataset=dataset, method=name, random=False)
            ends = [np.mean(start), np.mean(end)]
            axes.plot(ends, [row, row], color="#bbbbbb", linewidth=2, zorder=1)
            axes.scatter(ends[0], row, color="white", edgecolor="#666666", zorder=2)
            better = ends[1] > ends[0]
            color = "#1f77b4" if better else "#d62728"
            axes.errorbar(ends[1], row, xerr=standard_error(end), fmt="o", color=color, zorder=3)
        axes.set(title=title, xlabel="accuracy, %", yticks=range(len(order)), yticklabels=order)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Untrained (hollow) and after about two minutes (digits: half a minute)")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    methods().savefig(options.output / "methods.png", dpi=90)


if __name__ == "__main__":
    main()
