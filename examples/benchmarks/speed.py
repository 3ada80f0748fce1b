"""Measure our loops: against plain and tuned torch loops, with more images, and two at once.

    python examples/benchmarks/speed.py --data imagenette/   # a zip or folder of class/name images

The alternatives take turns within one run. Results are ratios: medians, with their range.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from data import load_images, machine

from sklearn_ssl import LinearProbe, PatchDictionary, SimCLR
from sklearn_ssl._utils._torch import bfloat16_is_native, freed_memory_reused
from sklearn_ssl.encoders import pool_features
from sklearn_ssl.images import image_digest, read_images
from sklearn_ssl.training import Batches

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALF = torch.bfloat16 if bfloat16_is_native(DEVICE) else torch.float32
RATIO = "ratio (median; range over rounds)"


def seconds(function):
    began = time.perf_counter()
    function()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turns(functions, rounds):
    """Time each function in every round, in seconds, after a warm-up round."""
    times = [
        {name: seconds(function) for name, function in functions.items()} for _ in range(rounds + 1)
    ]
    return times[1:]


def row(what, rounds, above, below):
    ratios = [times[above] / times[below] for times in rounds]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"| {what} | {middle:.2f} ({low:.2f} to {high:.2f}) |", flush=True)


def features_by_hand(learner, X, tuned):
    """Compute features in a plain loop, or with bfloat16, channels last and small chunks."""
    encoder, pixels = learner.encoder_, learner.net_.module_.pixels
    encoder.eval()
    size = 32 if tuned else 256
    if DEVICE.type == "cuda":
        size = 1024 if tuned else 256
    found = []
    with torch.no_grad(), torch.autocast(DEVICE.type, HALF, enabled=tuned):
        for start in range(0, len(X), size):
            batch = torch.from_numpy(X[start : start + size]).to(DEVICE).permute(0, 3, 1, 2)
            if not tuned:
                batch = batch.contiguous()
            maps = encoder(pixels(batch), learner.layer)
            found.append(pool_features(maps.float(), learner.pool).cpu())
    return torch.cat(found).numpy()


def transform(X, y, rounds):
    learner = SimCLR(encoder="resnet18", layer="layer4", pool="avg", max_epochs=0, random_state=0)
    learner.fit(X)
    contiguous = SimCLR(
        encoder="resnet18", layer="layer4", pool="avg", max_epochs=0, random_state=0
    ).fit(X)
    for parameter in contiguous.net_.module_.parameters():
        parameter.data = parameter.data.contiguous()
    times = in_turns(
        {
            "ours": lambda: learner.transform(X),
            "plain": lambda: features_by_hand(contiguous, X, tuned=False),
            "tuned": lambda: features_by_hand(learner, X, tuned=True),
        },
        rounds,
    )
    height, width = X.shape[1:3]
    print(f"\n| transform, resnet18, {height} x {width} pixels | {RATIO} |\n|---|---|")
    row("our speed / a plain float32 loop", times, "plain", "ours")
    tuned = "a hand-tuned loop (bfloat16, channels last, chunks that fit into the cache)"
    row(f"our speed / {tuned}", times, "tuned", "ours")


def precision(X, y):
    learner = SimCLR(encoder="resnet18", max_epochs=1, random_state=0).fit(X)
    low = learner.transform(X)
    full = learner.set_params(precision="float32")
    full.net_.precision = "float32"
    high = full.transform(X)
    cosine = (low * high).sum(1) / np.linalg.norm(low, axis=1) / np.linalg.norm(high, axis=1)
    half = len(X) // 2
    accuracies = []
    for features in (low, high):
        probe = LinearProbe()
        probe.fit(features[:half], y[:half])
        accuracies.append(100 * probe.score(features[half:], y[half:]))
    print("\n| features in bfloat16 and float32 | |\n|---|---|")
    print(f"| cosine similarity: minimum, mean | {cosine.min():.5f}, {cosine.mean():.5f} |")
    print(f"| accuracy of a probe | {accuracies[0]:.1f} and {accuracies[1]:.1f} % |", flush=True)


def bare_epoch(learner, X, batch_size):
    """Train the same task with the same optimizer in a bare loop."""
    net = learner.net_
    module, optimizer = net.module_, net.optimizer_
    module.train()
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    with freed_memory_reused():
        for index in torch.randperm(len(X)).split(batch_size):
            if len(index) < batch_size:
                break
            batch = images[index].to(DEVICE)
            with torch.autocast(DEVICE.type, HALF, enabled=torch.bfloat16 == HALF):
                output = module(batch, index.to(DEVICE))
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            module.task.after_step(output, 0.5)


def step(X, rounds, batch_size=256):
    options = {"batch_size": batch_size, "random_state": 0, "max_epochs": 1}
    bare = SimCLR(**options).fit(X)
    ours = SimCLR(**options, warm_start=True).fit(X)
    n_steps = len(X) // batch_size

    def train():  # counts only the training within fit
        ours.fit(X)
        measured.append(ours.history_[-1]["seconds"])

    measured: list[float] = []
    ratios = []
    for _ in range(rounds + 1):
        train()
        ratios.append(measured[-1] / seconds(lambda: bare_epoch(bare, X, batch_size)))
    ratios = ratios[1:]
    what = f"a step of SimCLR with its defaults, batch {batch_size}, {n_steps} steps"
    print(f"\n| {what} | {RATIO} |\n|---|---|")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(
        f"| our time / a bare loop for the same task | {middle:.3f} ({low:.3f} to {high:.3f}) |",
        flush=True,
    )


def more_images(X, rounds):
    base = X[: len(X) // 8]
    learner = SimCLR(max_epochs=1, batch_size=128, random_state=0)
    many = {n: np.concatenate([base] * n) for n in (1, 2, 4, 8)}
    times = in_turns(
        {n: lambda images=images: learner.fit(images) for n, images in many.items()}, rounds
    )
    print(f"\n| time of a fit | {RATIO} |\n|---|---|")
    for n, images in many.items():
        row(f"{len(images)} images / {len(base)} images", times, n, 1)


def hashing(X, rounds):
    """Compare hashing images, to recognize those of an earlier fit, with reading them once."""
    images = read_images(X, estimator=SimCLR())

    def read():
        batches = Batches(images, 128, torch.device("cpu"))
        for _ in batches.in_order(batches.draw_order()):
            pass

    times = in_turns({"hash": lambda: image_digest(images), "read": read}, rounds)
    print(f"\n| {len(images)} images of {images.shape}, {images.dtype} | {RATIO} |\n|---|---|")
    row("time of hashing / reading them from memory", times, "hash", "read")


def dictionary(X, rounds):
    """Compare features of a dictionary with its matrix products, with and without whitening."""
    print(f"\n| PatchDictionary.transform | {RATIO} |\n|---|---|")
    for n_atoms, patch_size in ((400, 6), (1600, 6), (1600, 8)):
        learner = PatchDictionary(
            n_atoms=n_atoms, patch_size=patch_size, pool=4, n_patches=20_000, n_iter=1
        ).fit(X)
        rows, columns = learner.encoder_.grid
        width = -(-(learner.encoder_.atoms.shape[1] + 1) // 16) * 16
        atoms = torch.randn(n_atoms, width, dtype=HALF, device=DEVICE)
        whitening = torch.randn(width, width, dtype=HALF, device=DEVICE)
        at_once = 4 if DEVICE.type == "cpu" else len(X)
        patches = torch.randn(at_once * rows * columns, width, dtype=HALF, device=DEVICE)
        n_times = len(X) // at_once

        def product(*matrices, patches=patches, n_times=n_times):
            for _ in range(n_times):
                for matrix in matrices:
                    patches @ matrix.T

        functions = {
            "atoms": functools.partial(product, atoms),
            "both": functools.partial(product, whitening, atoms),
            "features": functools.partial(learner.transform, X),
        }
        times = in_turns(functions, rounds)
        what = f"{n_atoms} atoms of {patch_size} x {patch_size} pixels"
        row(f"{what}: speed / that of patches times atoms", times, "atoms", "features")
        row(f"{what}: speed / that of both products", times, "both", "features")


FITS = """
import sys
import numpy as np
from joblib import Parallel, delayed
from sklearn_ssl import SimCLR
def fit(seed):
    X = np.random.default_rng(0).integers(0, 255, (512, 32, 32, 3), dtype=np.uint8)
    learner = SimCLR(max_epochs=2, batch_size=128, random_state=seed).fit(X)
    return np.median([record["seconds"] for record in learner.history_])
n_jobs = int(sys.argv[1])
print(np.mean(Parallel(n_jobs=n_jobs)(delayed(fit)(seed) for seed in range(n_jobs))))
"""
LIMIT = 60  # seconds, after which processes are killed


def processes(n, n_jobs=1, **environment):
    """Return the mean seconds of an epoch with this many processes at once."""
    variables = {**os.environ, "OMP_NUM_THREADS": "", **environment}
    variables = {name: value for name, value in variables.items() if value}
    command = [sys.executable, "-W", "ignore", "-c", FITS, str(n_jobs)]
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(n)
    ]
    try:
        return statistics.mean(float(p.communicate(timeout=LIMIT)[0].split()[-1]) for p in running)
    except subprocess.TimeoutExpired:
        return float("inf")
    finally:
        for process in running:
            process.kill()
            process.wait()


def side_by_side(rounds):
    """Compare two fits at once with one alone; a ratio of 2 is expected."""
    ways = {
        "`OMP_NUM_THREADS=1` for each": {"n": 2, "OMP_NUM_THREADS": "1"},
        "in two joblib workers": {"n": 1, "n_jobs": 2},
        "two threads each, the default": {"n": 2},
        "... with `OMP_WAIT_POLICY=passive`": {"n": 2, "OMP_WAIT_POLICY": "passive"},
    }
    times = [
        {"alone": processes(1), **{name: processes(**way) for name, way in ways.items()}}
        for _ in range(rounds)
    ]
    print(f"\n| time of an epoch, two fits at once / one alone | {RATIO} |\n|---|---|")
    for name in ways:
        row(name, times, name, "alone")
    print(f"(inf: not finished in {LIMIT} s; an epoch alone takes {times[0]['alone']:.2f} s)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--parts", default="transform,precision,step,more,hashing,dictionary,side")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    parts = args.parts.split(",")
    print(machine())
    X, y = load_images(args.data)
    order = np.random.default_rng(0).permutation(len(X))[:4096]
    X, y = X[order], y[order]
    if "transform" in parts:
        transform(X[:1024], y[:1024], args.rounds)
    if "precision" in parts:
        precision(X, y)
    if "step" in parts:
        step(X[:2048], args.rounds)
    if "more" in parts:
        more_images(X, args.rounds)
    if "hashing" in parts:
        hashing(X, args.rounds)
    if "dictionary" in parts:
        dictionary(X[:1024], args.rounds)
    if "side" in parts:
        side_by_side(args.rounds)


if __name__ == "__main__":
    main()
