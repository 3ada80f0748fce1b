"""Compare small encoders in the same time: SimCLR on CIFAR-10, a kernel on frozen features.

    python examples/benchmarks/encoders.py --data cifar10/ --output encoders.jsonl
    python examples/benchmarks/encoders.py --output encoders.jsonl --table

Images are split as in minutes.py, but accuracy is that on 4,000 other images, which are pretrained
on, too. Each run adds one line to the output; existing runs are skipped.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import KernelProbe, SimCLR, Views

from data import add_line, cell, lines_in, load_images  # isort: skip
from minutes import split  # isort: skip

ENCODERS = ("small_resnet", "small_convnet", "wide_convnet")
N_JUDGED = 4000


def run(encoder, seconds, seed, images, labels):
    train, seen, _ = split(len(images), seed, 0, min(10_000, len(images) // 4))
    judged = np.setdiff1d(seen, train)[:: max(1, (len(seen) - len(train)) // N_JUDGED)]
    names = ["layer2", "layer3", "layer4"]
    if encoder != "small_resnet":
        names = ["layer1", "layer2", "layer3"]
    ssl = SimCLR(
        encoder=encoder,
        layer=names,
        time_budget=seconds,
        views=Views(size=images.shape[1] // 2),
        mirror=True,
        random_state=seed,
    ).fit(images[seen])
    began = time.perf_counter()
    features = ssl.transform(images[train])
    encoding = time.perf_counter() - began
    line = {"epochs": ssl.n_images_seen_ / len(seen), "encoding": round(encoding, 1)}
    found = ssl.transform(images[judged])
    for n in (1000, len(train)):
        probe = make_pipeline(StandardScaler(), KernelProbe()).fit(features[:n], labels[train[:n]])
        line[f"accuracy, {n:,} labels"] = probe.score(found, labels[judged])
    return line


def print_table(lines):
    names = [name for name in lines[0] if name.startswith("accuracy")]
    heads = "".join(f" {name}, % |" for name in names)
    print(f"| encoder | seconds | seeds | epochs | encoding, s |{heads}")
    print("|" + "---|" * (5 + len(names)))
    for key in dict.fromkeys((line["encoder"], line["seconds"]) for line in lines):
        found = [line for line in lines if (line["encoder"], line["seconds"]) == key]
        cells = [cell([100 * line[name] for line in found]) for name in names]
        cells = [cell([line[name] for line in found]) for name in ("epochs", "encoding")] + cells
        print(f"| `{key[0]}` | {key[1]:g} | {len(found)} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--output", type=Path, default=Path("encoders.jsonl"))
    parser.add_argument("--seconds", type=float, nargs="*", default=[120])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    images, labels = load_images(options.data)
    done = {(line["encoder"], line["seconds"], line["seed"]) for line in lines}
    for seed in options.seeds:
        for seconds in options.seconds:
            for encoder in options.encoders:
                if (encoder, seconds, seed) not in done:
                    line = run(encoder, seconds, seed, images, labels)
                    add_line(
                        options.output,
                        {"encoder": encoder, "seconds": seconds, "seed": seed, **line},
                    )


if __name__ == "__main__":
    main()
