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


MARKERS = {  # method: marker, fill, edge, label
    "pixels": ("s", "#bbbbbb", "#888888", "pixels"),
    "HOG": ("^", "#bbbbbb", "#888888", "HOG"),
    "supervised": ("D", "#ff7f0e", "#ff7f0e", "network trained on the labels"),
    "best part": ("o", "white", "#1f77b4", "best part: dictionary or learner"),
    "AutoFeatures": ("o", "#1f77b4", "#1f77b4", "AutoFeatures"),
}


def auto_features(minutes=1):
    """Plot AutoFeatures beside its parts, pixels, HOG and a network trained on the labels."""
    lines = [x for x in lines_in(HERE / "auto_features.jsonl") if x["minutes"] == minutes]
    names = list(dict.fromkeys(line["data"] for line in lines))[::-1]
    figure = Figure((8, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, labels in zip(panels, ("50", "1,000", "all, at most 10,000"), strict=True):
        for row, name in enumerate(names):
            some = [line for line in lines if line["data"] == name]
            most = max(line["n_labels"] for line in some)
            count = {"50": 50, "1,000": 1000}.get(labels, most)
            found = {
                method: np.mean(accuracies(some, method=method, n_labels=count))
                for method in {line["method"] for line in some if line["n_labels"] == count}
            }
            if labels.startswith("all") and count == 1000:
                continue  # more are not run yet
            found["best part"] = max(found.get(part, 0) for part in ("dictionary", "learner"))
            axes.axhline(row, color="#eeeeee", zorder=0)
            for method, (marker, color, edge, _) in MARKERS.items():
                style = {"marker": marker, "color": color, "edgecolor": edge, "s": 36}
                axes.scatter(found[method], row, zorder=2, **style)
        axes.set(title=f"{labels} labels", xlabel="accuracy, %", xlim=(10, 102))
        axes.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4))
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for marker, color, edge, label in MARKERS.values():
        panels[0].scatter([], [], marker=marker, color=color, edgecolor=edge, s=36, label=label)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    methods().savefig(options.output / "methods.png", dpi=160)
    auto_features().savefig(options.output / "auto_features.png", dpi=160)


if __name__ == "__main__":
    main()
