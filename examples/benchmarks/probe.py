"""Is the probe fair? Compare LinearProbe, which chooses its own settings, with the best fixed ones.

    python examples/benchmarks/probe.py --data digits --output probe.jsonl
    python examples/benchmarks/probe.py --data cifar10/ --name CIFAR-10 --output probe.jsonl
    python examples/benchmarks/probe.py --data imagenette/ --side 96 --name Imagenette-96 ...
    python examples/benchmarks/probe.py --output probe.jsonl --table

Six kinds of features, four numbers of labels, and ten draws each. "Best" is scikit-learn's logistic
regression with the C and scaling of the best mean test accuracy, which is unknown in practice.
"Fixed" is C = 0.01 on features that are standardized on the labeled images.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import LinearProbe, PatchDictionary, SimCLR, Views

from data import add_line, lines_in, load_images  # isort: skip

N_IMAGES, N_LABELS, N_DRAWS = 7000, (10, 50, 250, 1000), 10
CS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5)  # for features whose variances sum to 1


def features_of(images, rest):
    from skimage.feature import hog

    small = len(images[0]) < 16
    cell = max(2, images.shape[1] // (4 if small else 6))
    rows = images.reshape(len(images), -1).astype(np.float32)
    color = -1 if images.ndim == 4 else None
    views = (
        Views(flip=0, crop_scale=(0.3, 1.0)) if small else Views(size=min(32, images.shape[1] // 2))
    )
    size = 48 if images.shape[1] > 48 else None
    learner = SimCLR(views=views, max_epochs=30 if small else 10, random_state=0)
    yield "pixels", rows
    yield "PCA", PCA(30 if small else 100, random_state=0).fit(rows[rest]).transform(rows)
    yield (
        "HOG",
        np.stack(
            [
                hog(x, pixels_per_cell=(cell, cell), cells_per_block=(2, 2), channel_axis=color)
                for x in images
            ]
        ),
    )
    yield "random encoder", SimCLR(max_epochs=0, random_state=0).fit(images[rest]).transform(images)
    yield (
        "PatchDictionary",
        PatchDictionary(input_size=size, pool=2, random_state=0)
        .fit(images[rest])
        .transform(images),
    )
    yield "SimCLR", learner.fit(images[rest]).transform(images)


def scalings(features, rest):
    """Yield features with their own scales, and standardized on all training images."""
    off = features - features[rest].mean(0, dtype=np.float64)
    variance = off[rest].var(0)
    deviation = np.sqrt(variance + 0.01 * variance.mean())
    yield off / np.sqrt(variance.sum())
    yield off / deviation / np.sqrt((variance / deviation**2).sum())


def in_span(known, others):
    """Return the same inner products in fewer dimensions; penalized regression is the same."""
    if known.shape[1] <= len(known):
        return known, others
    values, vectors = np.linalg.eigh(known @ known.T)
    there = values > 1e-12 * values[-1]
    values, vectors = values[there], vectors[:, there]
    return vectors * np.sqrt(values), others @ known.T @ (vectors / np.sqrt(values))


def draw(y, n, seed):
    """Draw the rows of ``n`` labels, with at least one of each class."""
    order = np.random.default_rng(seed).permutation(len(y))
    _, first = np.unique(y[order], return_index=True)
    return np.concatenate([order[first], np.delete(order, first)])[:n]


def run(images, labels, name, done, write):
    if len(images) > N_IMAGES:
        some = np.random.default_rng(0).permutation(len(images))[:N_IMAGES]
        images, labels = images[some], labels[some]
    n_test = min(2000, len(images) // 4)
    rest, test = train_test_split(
        np.arange(len(images)), test_size=n_test, stratify=labels, random_state=0
    )
    y, of_test = labels[rest], labels[test]
    for method, features in features_of(images, rest):
        scaled = list(scalings(features.astype(np.float64), rest))
        for n in N_LABELS:
            if (name, method, n) in done:
                continue
            found = {}
            for seed in range(N_DRAWS):
                rows = draw(y, n, seed)
                here = rest[rows]
                probe = LinearProbe().fit(features[here], y[rows], X_unlabeled=features[rest])
                found.setdefault("probe", []).append(probe.score(features[test], of_test))
                scaler = StandardScaler().fit(features[here])
                spans = [(in_span(each[here], each[test]), CS) for each in scaled]
                spans.append(
                    (in_span(*map(scaler.transform, (features[here], features[test]))), [0.01])
                )
                for i, ((known, others), path) in enumerate(spans):
                    model = LogisticRegression(max_iter=300, warm_start=True)
                    for C in path:
                        model.set_params(C=C).fit(known, y[rows])
                        accuracy = model.score(others, of_test)
                        found.setdefault((i, C), []).append(accuracy)
            fixed = found.pop((2, 0.01))
            probed = found.pop("probe")
            best = max(found, key=lambda key: np.mean(found[key]))
            write(
                {
                    "data": name,
                    "method": method,
                    "n_labels": n,
                    "probe": probed,
                    "best": found[best],
                    "best_is": ["standardized" if best[0] else "as they are", best[1]],
                    "fixed": fixed,
                    "n_test": n_test,
                }
            )


def print_table(lines):
    print("| data, labels | " + " | ".join(dict.fromkeys(r["method"] for r in lines)) + " |")
    print("|---" * (1 + len({r["method"] for r in lines})) + "|")
    for name, n in dict.fromkeys((r["data"], r["n_labels"]) for r in lines):
        here = [r for r in lines if (r["data"], r["n_labels"]) == (name, n)]
        cells = [
            " / ".join(f"{100 * np.mean(r[key]):.1f}" for key in ("fixed", "probe", "best"))
            for r in here
        ]
        print(f"| {name}, {n:,} | " + " | ".join(cells) + " |")
    gaps = [100 * (np.mean(r["best"]) - np.mean(r["probe"])) for r in lines]
    print(
        f"\nThe probe is at most {max(gaps):.1f} points below the best, "
        f"{np.mean(gaps):.1f} on average."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--side", type=int)
    parser.add_argument("--name", default="digits")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print_table(lines_in(options.output))
        return
    if options.data == "digits":
        images, labels = load_digits().images, load_digits().target
    else:
        images, labels = load_images(options.data, options.side)
    done = {(r["data"], r["method"], r["n_labels"]) for r in lines_in(options.output)}

    def write(line):
        add_line(options.output, line)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        run(images, labels, options.name, done, write)


if __name__ == "__main__":
    main()
