"""Benchmark image files: decoding, overlap with the network, memory, start, lightly's recipe.

    pip install "sklearn-ssl[peers,fast]"
    python examples/benchmarks/files.py imagenette/   # a folder of class/name JPEG files

The alternatives take turns within one run. Results are ratios: medians, with their range.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from data import machine

from sklearn_ssl import SimCLR, Views
from sklearn_ssl.images import list_images
from sklearn_ssl.images._files import Files, Reading

SIDE = 96
BATCH = 128
THREADS = os.cpu_count() or 1
RATIO = "ratio (median; range over rounds)"


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turns(functions, rounds):
    """Time each function in every round, in seconds."""
    return [
        {name: seconds(function) for name, function in functions.items()} for _ in range(rounds)
    ]


def ratio(rounds, above, below):
    ratios = [above(times) / below(times) for times in rounds]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def decode(paths, n_jobs=THREADS, side=SIDE):
    files = Files(paths, Reading(n_jobs=n_jobs), (side, side, 3), "uint8")
    for start in range(0, len(paths), BATCH):
        files[np.arange(start, min(start + BATCH, len(paths)))]
    return len(paths)


def decoding(paths, rounds):
    """Compare threads with processes, which must send decoded images back."""
    with ProcessPoolExecutor(THREADS, mp_context=multiprocessing.get_context("spawn")) as pool:
        halves = [paths[i::THREADS] for i in range(THREADS)]
        list(pool.map(decode_one_by_one, [h[:BATCH] for h in halves]))  # start the processes

        def processes():
            for images in pool.map(decode_one_by_one, np.array_split(paths, 8 * THREADS)):
                images.sum()

        times = in_turns(
            {
                "one thread": lambda: decode(paths, 1),
                "threads": lambda: decode(paths),
                "processes": processes,
            },
            rounds,
        )
    print(f"\n| decoding {len(paths)} files to {SIDE} px | {RATIO} |\n|---|---|")
    for name in ("threads", "processes"):
        against = ratio(times, lambda t: t["one thread"], lambda t, name=name: t[name])
        print(f"| speed of {THREADS} {name} / one thread | {against} |")


def decode_one_by_one(paths):
    files = Files(paths, Reading(n_jobs=1), (SIDE, SIDE, 3), "uint8")
    return files[np.arange(len(paths))]


def overlap(paths, encoder, side, rounds):
    """Compare folder to features with decoding alone and the network alone."""
    learner = SimCLR(encoder=encoder, max_epochs=0, random_state=0, image_shape=(side, side))
    learner.fit(paths[:64])
    decoded = Files(paths, Reading(), (side, side, 3), "uint8")[np.arange(len(paths))]
    times = in_turns(
        {
            "decode": lambda: decode(paths, side=side),
            "compute": lambda: learner.transform(decoded),
            "both": lambda: learner.transform(paths),
        },
        rounds,
    )
    slower = ratio(times, lambda t: max(t["decode"], t["compute"]), lambda t: t["both"])
    one_after_the_other = ratio(times, lambda t: t["decode"] + t["compute"], lambda t: t["both"])
    share = ratio(times, lambda t: t["decode"], lambda t: t["compute"])
    print(f"\n| features of {encoder} at {side} px | {RATIO} |\n|---|---|")
    print(f"| time of decoding alone / the network alone | {share} |")
    print(f"| speed of both together / the slower one alone | {slower} |")
    print(f"| time of one after the other / both together | {one_after_the_other} |")


def peak_of(n_times, folder):
    """Print the peak memory of a fit and of its features, with the files repeated."""
    paths = list(list_images(folder))[:500] * n_times
    learner = SimCLR(encoder="small_resnet", max_epochs=1, random_state=0, image_shape=(32, 32))
    learner.fit(paths)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    learner.transform(paths)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(before / 1024, after / 1024)


def memory(folder):
    print("\n| images | peak after fit | after transform |\n|---|---|---|")
    for n_times in (1, 2, 4):
        output = os.popen(f"{sys.executable} {__file__} {folder} --peak {n_times}").read()
        fit, transform = (float(value) for value in output.split()[-2:])
        print(f"| {500 * n_times} | {fit:.0f} MiB | {transform:.0f} MiB |")


def start(folder):
    """Time fit from its call to the first batch, with a million paths."""
    from skorch.callbacks import Callback

    class Stop(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise StopIteration

    some = list_images(folder)[:100]
    with tempfile.TemporaryDirectory() as links:
        paths = []
        for i in range(1000):
            path = Path(links, f"{i:03}.jpg")
            path.symlink_to(os.path.abspath(some[i % len(some)]))
            paths.append(str(path))
        paths = paths * 1000
        learner = SimCLR(callbacks=[Stop()], image_shape=(32, 32))
        began = time.perf_counter()
        try:
            learner.fit(paths)
        except StopIteration:
            took = time.perf_counter() - began
    print(f"\n{len(paths)} paths: {took:.1f} s from the call of fit to the first batch")


def resnet18():
    """Make torchvision's ResNet-18 with the ImageNet stem, for both libraries."""
    import torchvision

    network = torchvision.models.resnet18()
    network.fc = torch.nn.Identity()
    return network


def peers(folder, rounds, steps):
    """Compare training over a folder with lightly's own recipe, with two workers."""
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch.utils.data import DataLoader, Subset

    transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5, gaussian_blur=0.0)
    dataset = LightlyDataset(str(folder), transform=transform)
    rows = np.random.default_rng(0).permutation(len(dataset))[: (steps + 1) * BATCH].tolist()
    paths = np.array([dataset.dataset.samples[row][0] for row in rows], dtype=object)
    model = torch.nn.Sequential(resnet18(), SimCLRProjectionHead(512, 512, 128))
    criterion = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=6e-2, momentum=0.9, weight_decay=5e-4)

    def lightly(dtype=None):
        loader = DataLoader(
            Subset(dataset, rows), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2
        )
        for step, ((first, second), *_) in enumerate(loader):
            if step == 1:  # the first step starts the workers
                began = time.perf_counter()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                loss = criterion(model(first), model(second))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * BATCH / (time.perf_counter() - began)

    def ours():
        learner = SimCLR(
            encoder=resnet18,
            image_shape=(SIDE, SIDE),
            views=Views(size=SIDE, crop_scale=(0.08, 1.0), blur=0),
            batch_size=BATCH,
            optimizer="sgd",
            lr=6e-2,
            max_epochs=2,
            random_state=0,
        )
        return learner.fit(paths).history_[-1]["images_per_second"]

    rates = [
        {"lightly": lightly(), "bfloat16": lightly(torch.bfloat16), "ours": ours()}
        for _ in range(rounds)
    ]
    print(f"\n| training resnet18 on the folder, views of {SIDE} px | {RATIO} |\n|---|---|")
    for name, what in (("lightly", "two workers"), ("bfloat16", "bfloat16 added")):
        against = ratio(rates, lambda t: t["ours"], lambda t, name=name: t[name])
        print(f"| our speed / lightly's recipe with {what} | {against} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--parts", default="decoding,overlap,memory,start,peers")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--side", type=int, default=SIDE, help="image side for features, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="training steps that are timed")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        peak_of(args.peak, args.folder)
        return
    print(machine())
    paths = np.random.default_rng(0).permutation(list_images(args.folder))[:2048]
    parts = args.parts.split(",")
    if "decoding" in parts:
        decoding(paths, args.rounds)
    if "overlap" in parts:
        overlap(paths, args.encoder, args.side, args.rounds)
    if "memory" in parts:
        memory(args.folder)
    if "start" in parts:
        start(args.folder)
    if "peers" in parts:
        peers(args.folder, args.rounds, args.steps)


if __name__ == "__main__":
    main()
