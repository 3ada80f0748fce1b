"""Does any measure without labels choose layers and pooling better than their width does?

    python examples/benchmarks/layer_measures.py --data FOLDER --output layer_measures.jsonl
    python examples/benchmarks/layer_measures.py --output layer_measures.jsonl --table

SimCLR is pretrained with three seeds on digits and on CIFAR-10; features come from several layers
and grids, with different widths. To compare at equal width, features of at least 128 dimensions are
also multiplied by a random orthogonal matrix and cut to 128. The probe is ridge regression of the
classes on standardized features, with the penalty chosen by leave-one-out; measures see no labels.
Each choice adds a line to the output; existing seeds are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import SimCLR, Views
from sklearn_ssl.metrics import alignment, alpha_req, lidar, rank_me, uniformity

from data import add_line, cell, lines_in, load_images  # isort: skip

SEEDS = (0, 1, 2)
GRIDS = ("avg", 2, 3)
LAYERS = ["layer1", "layer2", "layer3", "layer4"]
CHOICES = {
    "layer1, 2 x 2": (["layer1"], 2),
    "layer2, avg": (["layer2"], "avg"),
    "layer2, 2 x 2": (["layer2"], 2),
    "layer2, 3 x 3": (["layer2"], 3),
    "layer3, avg": (["layer3"], "avg"),
    "layer3, 2 x 2": (["layer3"], 2),
    "layer3, 3 x 3": (["layer3"], 3),
    "layer4, avg": (["layer4"], "avg"),
    "layer4, 2 x 2": (["layer4"], 2),
    "layer2 + layer3, 2 x 2": (["layer2", "layer3"], 2),
    "layer3 + layer4, avg": (["layer3", "layer4"], "avg"),
    "layer2 + layer3 + layer4, avg": (["layer2", "layer3", "layer4"], "avg"),
}
ON_ONE_PIXEL = {"layer3, 3 x 3", "layer4, 2 x 2"}  # on digits, same as smaller grids
EQUAL = 128
MEASURED, VIEWS = 600, 5  # images, and views of each
MEASURES = {  # higher is better
    "width": lambda features, views, width: width,
    "RankMe": lambda features, views, width: rank_me(features),
    "alpha-ReQ": lambda features, views, width: -abs(alpha_req(features) - 1),
    "LiDAR": lambda features, views, width: lidar(views),
    "alignment": lambda features, views, width: -alignment(views),
    "uniformity": lambda features, views, width: -uniformity(features),
}


def datasets(path):
    """Yield name, images, labels, numbers of training and labeled images, and learner."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    learner = SimCLR(max_epochs=40, views=Views(flip=0))
    yield "digits", digits.images[order], digits.target[order], 897, 300, learner
    if path is not None:
        images, labels = load_images(path)
        order = np.random.default_rng(0).permutation(len(images))[:6000]
        learner = SimCLR(max_epochs=4, views=Views(size=16))
        yield "cifar10", images[order], labels[order], 3000, 1000, learner


def features_of(learner, X):
    """Compute the features of each layer and grid, in one pass per grid."""
    found = {}
    for pool in GRIDS:
        features = learner.set_params(layer=LAYERS, pool=pool).transform(X)
        layers = np.array([name.split("_")[-2] for name in learner.get_feature_names_out()])
        found |= {(layer, pool): features[:, layers == layer] for layer in LAYERS}
    return found


def features_of_views(learner, X, seed):
    """Compute the same for views, whose feature maps may be smaller than the grid."""
    return {
        (layer, pool): learner.set_params(layer=layer, pool=pool).transform_views(
            X, VIEWS, random_state=seed
        )
        for layer in LAYERS
        for pool in GRIDS
    }


def lines_of(name, X, y, n_train, n_labels, learner, seed):
    learner.set_params(random_state=seed).fit(X[:n_train])
    features = features_of(learner, X)
    views = features_of_views(learner, X[:MEASURED], seed)
    for number, (choice, (layers, pool)) in enumerate(CHOICES.items()):
        if name == "digits" and choice in ON_ONE_PIXEL:
            continue
        own = np.concatenate([features[layer, pool] for layer in layers], -1)
        of_views = np.concatenate([views[layer, pool] for layer in layers], -1)
        width = own.shape[1]
        turn = np.random.default_rng(number).normal(size=(width, width))
        for equal in (False, True)[: 1 + (width >= EQUAL)]:
            if equal:
                turn = np.linalg.qr(turn)[0][:, :EQUAL].astype(np.float32)
                own, of_views = own @ turn, of_views @ turn
            probe = make_pipeline(
                StandardScaler(), RidgeClassifierCV(alphas=np.geomspace(0.1, 1e6, 15))
            ).fit(own[:n_labels], y[:n_labels])
            line = {"dataset": name, "seed": seed, "choice": choice, "equal width": equal}
            line["accuracy"] = 100 * probe.score(own[n_train:], y[n_train:])
            line |= {m: float(f(own[:MEASURED], of_views, width)) for m, f in MEASURES.items()}
            yield line


def title(dataset):
    return "CIFAR-10" if dataset == "cifar10" else dataset


def print_table(lines):
    datasets = dict.fromkeys(line["dataset"] for line in lines)
    seeds = sorted({line["seed"] for line in lines})
    groups = [(d, e) for d in datasets for e in (False, True)]
    names = [f"{title(d)}, {'equal width' if e else 'different widths'}" for d, e in groups]
    print(f"| chosen by | {' | points lost | '.join(names)} | points lost |")
    print("|---" * (1 + 2 * len(groups)) + "|")
    for measure in MEASURES:
        cells = []
        for dataset, equal in groups:
            rhos, lost = [], []
            for seed in seeds:
                mine = [
                    line
                    for line in lines
                    if (line["dataset"], line["equal width"], line["seed"])
                    == (dataset, equal, seed)
                ]
                values = [line[measure] for line in mine]
                accuracies = np.array([line["accuracy"] for line in mine])
                rhos.append(spearmanr(values, accuracies).statistic)
                lost.append(accuracies.max() - accuracies[int(np.argmax(values))])
            cells += [cell(rhos, 2), f"{np.mean(lost):.1f}"]
        print(f"| {measure} | {' | '.join(cells)} |")
    names = [f"{title(d)}, % | ... cut to {EQUAL}" for d in datasets]
    print(f"\n| layers and grid | dimensions | {' | '.join(names)} |")
    print("|---|---" + "|---" * len(groups) + "|")
    for choice in CHOICES:
        mine = [line for line in lines if line["choice"] == choice]
        widths = sorted({int(line["width"]) for line in mine})
        cells = []
        for dataset, equal in groups:
            found = [
                line["accuracy"]
                for line in mine
                if (line["dataset"], line["equal width"]) == (dataset, equal)
            ]
            cells.append(cell(found) if found else "")
        print(f"| {choice} | {' / '.join(f'{w:,}' for w in widths)} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="CIFAR-10: a zip or folder of class/name images")
    parser.add_argument("--output", type=Path, default=Path("layer_measures.jsonl"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    done = {(line["dataset"], line["seed"]) for line in lines}
    for name, *data in datasets(options.data):
        for seed in SEEDS:
            if (name, seed) in done:
                continue
            began = time.process_time()
            found = list(lines_of(name, *data, seed))
            for line in found:
                add_line(options.output, line)
            print(name, seed, f"{time.process_time() - began:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
