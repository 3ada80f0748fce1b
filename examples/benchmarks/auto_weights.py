"""Measure which weight a learner, or colors, should have beside a dictionary, in AutoFeatures.

    python examples/benchmarks/auto_weights.py --data cifar10/ --seconds 20 200
    python examples/benchmarks/auto_weights.py --data hands/ --side 64 --seconds 20 200
    python examples/benchmarks/auto_weights.py --digits --seconds 20 200
    python examples/benchmarks/auto_weights.py --tiles --colors --labels 50 200
    python examples/benchmarks/auto_weights.py --data cifar10/ --colors --labels 50 1000

Prints accuracies of a kernel ridge classifier on the dictionary, the learner, and both with several
shares of the learner in the squared distances, and what leave-one-out predictions choose. The test
set is a fifth of the images, at most 2,000; the others serve for pretraining, and labels are drawn
from them. --colors compares shares of a color histogram beside a dictionary of 400 patches, on at
most 3,000 images; --tiles are those of photographs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import ColorHistogram, KernelProbe, PatchDictionary
from sklearn_ssl.auto._plan import make_dictionary, make_learner, measured
from sklearn_ssl.auto._weighing import Labels, LeaveOneOut

from auto_features import read_images  # isort: skip
from data import cell  # isort: skip

N_TEST = 2000
SHARES_OF_COLORS = (0.0, 0.05, 0.1, 0.2, 0.35)
SHARES = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)


def fitted_parts(images, seconds):
    """Fit a dictionary, and a learner for some seconds, as AutoFeatures does."""
    _, mirror = measured(images, {}, 300.0)
    params = {"mirror": mirror, "random_state": 0}
    dictionary = make_dictionary(images.shape[1:], n_atoms=1600, **params)
    learner = make_learner(images.shape[1:], "small_convnet", False, time_budget=seconds, **params)
    return {"dictionary": dictionary.fit(images), "learner": learner.fit(images)}


def accuracy(parts, shares, train, test, labels):
    """Return the accuracy with labels of some rows, and with shares of the parts."""
    joined = np.concatenate([w**0.5 * parts[name] for name, w in shares.items() if w], axis=1)
    return KernelProbe().fit(joined[train], labels[train]).score(joined[test], labels[test])


def print_colors(images, labels, n_labels, draws):
    """Print accuracies of a dictionary and a color histogram, with several shares of colors."""
    some = np.random.default_rng(2026).permutation(len(images))[:3000]
    images, labels = images[some], labels[some]
    parts = {
        "dictionary": PatchDictionary(n_atoms=400, pool=3, mirror=True, random_state=0),
        "colors": ColorHistogram(random_state=0),
    }
    for name, part in parts.items():
        found = StandardScaler().fit_transform(part.fit_transform(images))
        parts[name] = found / found.shape[1] ** 0.5
    print("| labels | " + " | ".join(f"{share:g}" for share in SHARES_OF_COLORS) + " |")
    print("|" + "---|" * (len(SHARES_OF_COLORS) + 1))
    for n in n_labels:
        cells = []
        for share in SHARES_OF_COLORS:
            shares, found = {"dictionary": 1 - share, "colors": share}, []
            for draw in range(draws):
                order = np.random.default_rng(draw).permutation(len(images))
                found.append(100 * accuracy(parts, shares, order[:n], order[n:][-1000:], labels))
            cells.append(cell(found))
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--digits", action="store_true", help="scikit-learn's 8 x 8 digits")
    parser.add_argument("--tiles", action="store_true", help="tiles of photographs")
    parser.add_argument("--colors", action="store_true", help="shares of colors")
    parser.add_argument("--side", type=int, help="resize images to this side")
    parser.add_argument("--seconds", type=float, nargs="*", default=[20, 200])
    parser.add_argument("--labels", type=int, nargs="*", default=[50, 200, 1000])
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    if options.tiles:
        sys.path.append(str(Path(__file__).parents[1]))
        from photographs import load_tiles

        images, labels = load_tiles()
    else:
        images, labels = read_images(options.data, options.digits, options.side)
    if options.colors:
        print_colors(images, labels, options.labels, options.draws)
        return
    order = np.random.default_rng(2026).permutation(len(images))
    n_test = min(N_TEST, len(images) // 5)
    seen, test = order[:-n_test], order[-n_test:]
    some = np.concatenate([seen[: max(options.labels) * 2], test])
    n_seen = len(some) - n_test
    print("| seconds | images seen | labels | " + " | ".join(f"{s:g}" for s in SHARES), end="")
    print(" | leave-one-out |\n|" + "---|" * (len(SHARES) + 4))
    for seconds in options.seconds:
        fitted, parts = fitted_parts(images[seen], seconds), {}
        for name, part in fitted.items():
            found = part.transform(images[some])
            found = StandardScaler().fit(found[:n_seen]).transform(found)
            parts[name] = found / found.shape[1] ** 0.5
        for n in options.labels:
            n = min(n, n_seen)
            by_share, chosen = {share: [] for share in SHARES}, []
            for draw in range(options.draws):
                train = np.random.default_rng(draw).permutation(n_seen)[:n]
                rows = np.arange(n_seen, len(some))
                for share in SHARES:
                    shares = {"dictionary": 1 - share, "learner": share}
                    by_share[share].append(accuracy(parts, shares, train, rows, labels[some]))
                few = Labels(labels[some[train]], n)
                own = {name: found[train] for name, found in parts.items()}
                judge = LeaveOneOut(own, few, few.targets(np.arange(n)))
                weights = judge.choose(fitted)
                chosen.append(accuracy(parts, weights, train, rows, labels[some]))
            cells = [cell([100 * a for a in each]) for each in (*by_share.values(), chosen)]
            n_images = fitted["learner"].n_images_seen_
            print(f"| {seconds:g} | {n_images:,} | {n:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
