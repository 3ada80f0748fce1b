"""Compare the speed of augmentation and training with lightly's own recipe, as ratios.

    pip install "sklearn-ssl[peers]"
    python examples/benchmarks/throughput.py --output throughput.json

Both libraries get the same images, the same SimCLR views (crop, flip, color jitter, gray;
``--side`` pixels), the same encoder and batches of 128. They take turns within one run. ResNet-18
has a 3x3 stem below 64 pixels, and ImageNet's stem from 128 on. Lightly's recipe is from its
CIFAR-10 benchmark: PIL images, a data loader with two workers, float32 (mixed precision on a GPU),
SGD. The last row adds bfloat16 to it. ``--steps 0`` compares augmentation only.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from data import load_images, machine
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from sklearn_ssl import SimCLR, Views
from sklearn_ssl._utils._torch import bfloat16_is_native
from sklearn_ssl.encoders import SmallResNet

BATCH = 128
CROPS = (0.08, 1.0)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PairsOfViews(Dataset):
    """Pairs of views from lightly's transform, one image at a time."""

    def __init__(self, images):
        self.images = images
        side = images.shape[1]
        self.transform = SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=0.0)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i]))


def augment_lightly(images):
    """Return images (not views) per second."""
    pairs = PairsOfViews(images)
    began = time.perf_counter()
    for i in range(len(pairs)):
        pairs[i]
    return len(images) / (time.perf_counter() - began)


def augment_ours(images):
    views = Views(size=images.shape[1], crop_scale=CROPS, blur=0)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    began = time.perf_counter()
    for batch in pixels.split(BATCH):
        values = batch / 255
        views(values, 0), views(values, 1)
    return len(images) / (time.perf_counter() - began)


def backbone_for(encoder, side):
    """Make the encoder with pooling; return it and its output dimension."""
    if encoder == "small_resnet":
        return nn.Sequential(
            SmallResNet(3, (side, side)), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ), 256
    backbone = resnet18()
    if side < 64:
        backbone.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        backbone.maxpool = nn.Identity()
    backbone.fc = nn.Identity()
    return backbone, 512


def train_lightly(images, encoder, bfloat16):
    """Return images per second of lightly's loop."""
    backbone, width = backbone_for(encoder, images.shape[1])
    model = nn.Sequential(backbone, SimCLRProjectionHead(width, width, 128)).to(DEVICE)
    criterion = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=6e-2, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        PairsOfViews(images), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=2
    )
    dtype = torch.bfloat16 if bfloat16 else torch.float16
    scaler = torch.amp.GradScaler(enabled=DEVICE.type == "cuda" and not bfloat16)
    half = bfloat16 or DEVICE.type == "cuda"
    for step, (first, second) in enumerate(loader):
        if step == 1:  # the first step starts the workers
            began = time.perf_counter()
        with torch.autocast(DEVICE.type, dtype=dtype, enabled=half):
            z0, z1 = model(first.to(DEVICE)), model(second.to(DEVICE))
            loss = criterion(z0, z1)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return step * BATCH / (time.perf_counter() - began)


def train_ours(images, encoder):
    learner = SimCLR(
        encoder=encoder,
        views=Views(size=images.shape[1], crop_scale=CROPS, blur=0),
        batch_size=BATCH,
        optimizer="sgd",
        lr=6e-2,
        weight_decay=5e-4,
        temperature=0.5,
        max_epochs=2,
        random_state=0,
    )
    return learner.fit(images).history_[-1]["images_per_second"]


def one_thread(function, *args):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*args)
    finally:
        torch.set_num_threads(threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--output", type=Path, default=Path("throughput.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="training steps that are timed, or 0")
    parser.add_argument("--encoder", choices=["resnet18", "small_resnet"], default="resnet18")
    parser.add_argument("--side", type=int, default=32, help="side of images and views")
    args = parser.parse_args()
    if 64 <= args.side < 128:
        parser.error("--side: give less than 64, or at least 128; in between, stems differ")
    X, _ = load_images(args.data, args.side)
    X = np.random.default_rng(0).permutation(X)
    some, few = X[:1024], X[: BATCH * (args.steps + 1)]

    measured: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        rates = {
            "augment: lightly": one_thread(augment_lightly, some),
            "augment: ours, 1 thread": one_thread(augment_ours, X[:8192]),
            "augment: ours": augment_ours(X[:8192]),
        }
        if args.steps:
            rates["train: lightly"] = train_lightly(few, args.encoder, bfloat16=False)
            rates["train: ours"] = train_ours(few, args.encoder)
        if args.steps and bfloat16_is_native(DEVICE):
            rates["train: lightly, bfloat16"] = train_lightly(few, args.encoder, bfloat16=True)
        for name, rate in rates.items():
            measured.setdefault(name, []).append(rate)
            print(f"{name}: {rate:.1f} images/s", flush=True)
    args.output.write_text(json.dumps({"machine": machine(), "images_per_second": measured}))

    what = "our speed / lightly's (median; range over rounds)"
    print(f"\n| {what} | {args.side} px |\n|---|---|")
    for ours, peer in itertools.chain(
        itertools.product(("augment: ours, 1 thread", "augment: ours"), ("augment: lightly",)),
        (("train: ours", name) for name in measured if name.startswith("train: lightly")),
    ):
        ratios = [a / b for a, b in zip(measured[ours], measured[peer], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(f"| {ours} / {peer} | {middle:.1f} ({low:.1f} to {high:.1f}) |")


if __name__ == "__main__":
    main()
