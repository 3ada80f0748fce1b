"""Model the cost of a million, a hundred million and a billion images, on 1, 8 and 64 GPUs.

    python examples/benchmarks/costs.py --measure imagenette/ --output costs.json   # on a GPU
    python examples/benchmarks/costs.py --output costs.json

Measured on one device: a step of SimCLR with a ResNet-50 at 224 pixels, its views, features,
decoding of photographs on one core, and an all-gather between two processes. Arguments state the
assumptions about machines. The photographs come from the folder, enlarged to 500 x 375 pixels, the
usual size in ImageNet.
"""

import argparse
import json
import math
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from data import machine
from PIL import Image

from sklearn_ssl import SimCLR, Views
from sklearn_ssl.images import list_images
from sklearn_ssl.images._files import Files, Reading

SIDE = 224
BYTES_OF_GRADIENTS = 4 * 28e6  # of a ResNet-50 and its projector
BYTES_OF_EMBEDDINGS = 2 * 128 * 4  # per image, with two views
N_NORMS = 55  # of a ResNet-50 and its projector
BYTES_OF_NORMS = 2 * 27_584 * 4  # batch statistics, per process
BYTES_OF_A_PATH = 8 + len("/data/photographs/0123/0123456789.jpg") + 49  # a str, and its pointer
IMAGES = (1e6, 1e8, 1e9)
GPUS = (1, 8, 64)


def seconds(function, rounds=3):
    """Return the median duration of some calls, after a warm-up call."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(folder, batch_size, n_steps):
    """Measure seconds per image (with two views, in training), and of all-gathers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pixels = np.random.default_rng(0).integers(256, size=(batch_size, SIDE, SIDE, 3), dtype="uint8")
    ssl = SimCLR(encoder="resnet50", batch_size=batch_size, max_epochs=4, random_state=0)
    # steps are queued on a GPU before earlier ones end; only whole epochs, which wait for it, can
    # be timed
    several = np.tile(pixels, (n_steps, 1, 1, 1))
    ssl.set_params(views=Views(size=SIDE)).fit(several)
    steps = [1 / row["images_per_second"] for row in ssl.history_[1:]]  # seconds per image
    batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(255)

    def views():
        two = Views(size=SIDE)(batch, 0), Views(size=SIDE)(batch, 1)
        return float(two[1].mean())  # waits for the GPU

    return {
        "machine": machine(),
        "batch": batch_size,
        "step": statistics.median(steps),
        "views": seconds(views) / batch_size,
        "transform": seconds(lambda: ssl.transform(several)) / len(several),
        "decode": decoding(folder),
        "gather": gathering(),
    }


def decoding(folder, n_photos=200):
    """Measure seconds per photograph on one core, and its size in bytes."""
    with tempfile.TemporaryDirectory() as larger:
        for i, path in enumerate(list_images(folder)[:n_photos]):
            photo = Image.open(path).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
            photo.save(Path(larger, f"{i:04}.jpg"), quality=90)
        files = list_images(larger)
        reader = Files(files, Reading(n_jobs=1), (SIDE, SIDE, 3), "uint8")
        took = seconds(lambda: reader[np.arange(len(files))]) / len(files)
        size = statistics.mean(os.path.getsize(file) for file in files)
    return {"seconds": took, "bytes": size}


def gathering(sizes=(2**16, 2**20, 2**24)):
    """Measure seconds of an all-gather with gloo between two local processes, by bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    other = context.Process(target=gather, args=(1, address, sizes, None))
    first = context.Process(target=gather, args=(0, address, sizes, found))
    other.start(), first.start()
    result = found.get()
    other.join(), first.join()
    return result


def gather(rank, address, sizes, found):
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    result = {}
    for size in sizes:
        part, parts = torch.zeros(size // 4), list(torch.zeros(2, size // 4))
        result[size] = seconds(lambda part=part, parts=parts: dist.all_gather(parts, part), 20)
    if found is not None:
        found.put(result)
    dist.destroy_process_group()


def batch_on(n_gpus, options):
    return options.batch_a_gpu * n_gpus if options.batch is None else options.batch


def exchange(n_gpus, options):
    """Return the seconds of communication in a step, none of it overlapping with computation.

    Gradients are averaged by a ring; embeddings are gathered, and their gradients summed; each
    batch norm waits for a few numbers, twice per step.
    """
    if n_gpus == 1:
        return {"gradients": 0.0, "embeddings": 0.0, "batch norms": 0.0}
    n_machines = math.ceil(n_gpus / options.gpus_a_machine)
    link = options.network if n_machines > 1 else options.link
    share = (n_gpus - 1) / n_gpus / link
    of_embeddings = 3 * BYTES_OF_EMBEDDINGS * batch_on(n_gpus, options)
    waits = 2 * N_NORMS * options.latency * math.ceil(math.log2(n_gpus))
    return {
        "gradients": 2 * BYTES_OF_GRADIENTS * share,
        "embeddings": of_embeddings * share,
        "batch norms": waits + 3 * BYTES_OF_NORMS * n_gpus * share,
    }


def efficiency(n_gpus, step, options):
    """Return the share of ideal speedup that communication leaves, for a step of ``step`` s."""
    return step / (step + sum(exchange(n_gpus, options).values()))


def step_costs(costs, n_gpus, options):
    """Return the seconds of each part of a step on this many GPUs."""
    batch_size = batch_on(n_gpus, options)
    return {
        "encoder": (costs["step"] - costs["views"]) * batch_size / n_gpus,
        "views": costs["views"] * batch_size / n_gpus,
        "exchange": sum(exchange(n_gpus, options).values()),
    }


def supply(costs, n_gpus, options):
    """Return the images per second that the cores decode, and that the disks deliver."""
    of_cores = options.cores_a_gpu * n_gpus / costs["decode"]["seconds"]
    n_machines = math.ceil(n_gpus / options.gpus_a_machine)
    return {
        "decoding": of_cores,
        "reading": options.storage * n_machines / costs["decode"]["bytes"],
    }


def duration(took):
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("min", 60)):
        if took >= 2 * length:
            return f"{took / length:,.0f} {unit}"
    return f"{took:.0f} s"


def print_limits(costs, options):
    """Print the limits that hold without GPU measurements."""
    print(
        "| GPUs | batch | gradients | embeddings | batch norms | efficiency | decoding, images/s |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in GPUS:
        supplied = supply(costs, n, options)["decoding"]
        took = " | ".join(f"{1000 * part:.1f} ms" for part in exchange(n, options).values())
        left = efficiency(n, options.batch_a_gpu / options.speed, options)
        print(f"| {n} | {batch_on(n, options):,} | {took} | {left:.2f} | {supplied:,.0f} |")
    print(
        "\n| images | paths, GB per process | reading and decoding with the cores of 1 GPU "
        "| 8 GPUs | 64 GPUs |"
    )
    print("|---|---|---|---|---|")
    for images in IMAGES:
        rates = [min(supply(costs, n, options).values()) for n in GPUS]
        took = " | ".join(duration(images / rate) for rate in rates)
        print(f"| {images:,.0f} | {images * BYTES_OF_A_PATH / 1e9:,.1f} | {took} |")


def print_speeds(costs, options):
    print("\n| GPUs | batch | encoder | views | communication | images/s | speedup | bound by |")
    print("|---|---|---|---|---|---|---|---|")
    rates, alone = {}, 1 / costs["step"]
    for n in GPUS:
        batch_size = batch_on(n, options)
        parts = step_costs(costs, n, options)
        possible = {"GPU": batch_size / sum(parts.values()), **supply(costs, n, options)}
        slowest = min(possible, key=possible.get)
        rates[n] = possible[slowest]
        cells = " | ".join(f"{1000 * part:.0f} ms" for part in parts.values())
        print(
            f"| {n} | {batch_size:,} | {cells} | {rates[n]:,.0f} | {rates[n] / alone:.1f} | "
            f"{slowest} |"
        )
    print("\n| images | epoch on 1 GPU | 8 GPUs | 64 GPUs | features on 1 GPU | 8 GPUs | 64 GPUs |")
    print("|---|---|---|---|---|---|---|")
    for images in IMAGES:
        epochs = [duration(images / rates[n]) for n in GPUS]
        features = []
        for n in GPUS:  # workers are independent
            of_gpus = n / costs["transform"]
            features.append(duration(images / min(of_gpus, *supply(costs, n, options).values())))
        print(f"| {images:,.0f} | {' | '.join(epochs + features)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help="a folder of photographs: measure on this machine")
    parser.add_argument("--output", type=Path, default=Path("costs.json"))
    parser.add_argument("--measured-batch", type=int, default=256)
    parser.add_argument("--measured-steps", type=int, default=20)
    parser.add_argument("--batch-a-gpu", type=int, default=256)
    parser.add_argument("--batch", type=int, help="batch of all GPUs together")
    parser.add_argument("--gpus-a-machine", type=int, default=8)
    parser.add_argument("--cores-a-gpu", type=int, default=16)
    parser.add_argument(
        "--link", type=float, default=2e11, help="bytes/s between GPUs in a machine"
    )
    parser.add_argument("--network", type=float, default=2.5e10, help="bytes/s between machines")
    parser.add_argument("--latency", type=float, default=3e-5, help="seconds of a small exchange")
    parser.add_argument(
        "--speed",
        type=float,
        default=3000,
        help="images/s (two views) of one GPU",
    )
    parser.add_argument("--storage", type=float, default=2e9, help="bytes/s that a machine reads")
    options = parser.parse_args()
    if options.measure:
        costs = measure(options.measure, options.measured_batch, options.measured_steps)
        options.output.write_text(json.dumps(costs, indent=1) + "\n")
        print(json.dumps(costs, indent=1))
    costs = json.loads(options.output.read_text())
    print_limits(costs, options)
    if "step" in costs:
        print_speeds(costs, options)
    else:
        print(f"\n{options.output} has no GPU measurements; run --measure on a machine with a GPU")


if __name__ == "__main__":
    main()
