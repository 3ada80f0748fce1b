"""Compare six methods with lightly's components: same encoder, batch, views, optimizer, steps.

    pip install "sklearn-ssl[peers]"
    python examples/benchmarks/equal_footing.py --output equal_footing.jsonl
    python examples/benchmarks/equal_footing.py --output equal_footing.jsonl --table

Lightly's heads, losses and transform are combined as in its examples (PIL images, a data loader
with two workers, float32; mixed precision on a GPU), on our default encoder, with AdamW, a cosine
schedule, batches of 128, and our learner's default learning rate, which was chosen with our
learners. The trained encoder is put into one of our learners, so both sides are probed alike: our
default layer and grid, and a multinomial logistic regression on the labels of the training images.
Each run adds one line to the output; existing runs are skipped, so use another file for other
settings.
"""

import argparse
import copy
import itertools
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from lightly import loss as losses
from lightly.models.modules import heads
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Dataset

import sklearn_ssl
from sklearn_ssl import LinearProbe
from sklearn_ssl.encoders import SmallResNet
from sklearn_ssl.nn import parameter_groups, warmup_cosine

from data import add_line, cell, load_images  # isort: skip

BATCH, WEIGHT_DECAY, WARMUP = 128, 1e-4, 0.1
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Model(nn.Module):
    """Encoder, projector and other parts of a method; subclasses compare the views."""

    def __init__(self, projector, criterion, predictor=None, momentum=None):
        super().__init__()
        self.backbone = SmallResNet(3, (32, 32))
        self.projector = projector
        self.predictor = predictor or nn.Identity()
        self.criterion = criterion
        self.momentum = momentum
        if momentum is not None:
            self.average = nn.ModuleList(copy.deepcopy([self.backbone, projector]))
            deactivate_requires_grad(self.average)

    def project(self, x):
        return self.projector(self.backbone(x).mean((2, 3)))

    @torch.no_grad()
    def target(self, x):
        backbone, projector = self.average
        return projector(backbone(x).mean((2, 3)))


class TwoViews(Model):  # SimCLR, Barlow Twins, VICReg
    def forward(self, first, second):
        return self.criterion(self.project(first), self.project(second))


class SimSiam(Model):
    def forward(self, first, second):
        z0, z1 = self.project(first), self.project(second)
        p0, p1 = self.predictor(z0), self.predictor(z1)
        return 0.5 * (self.criterion(p0, z1.detach()) + self.criterion(p1, z0.detach()))


class BYOL(Model):
    def forward(self, first, second):
        p0, p1 = self.predictor(self.project(first)), self.predictor(self.project(second))
        z0, z1 = self.target(first), self.target(second)
        return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))


class MoCo(Model):
    def forward(self, first, second):
        return self.criterion(self.project(first), self.target(second))


def make_peer(name):
    width = 256
    if name == "SimCLR":
        head = heads.SimCLRProjectionHead(width, 512, 128)
        return TwoViews(head, losses.NTXentLoss(temperature=0.2))
    if name == "BarlowTwins":
        return TwoViews(
            heads.BarlowTwinsProjectionHead(width, 512, 512), losses.BarlowTwinsLoss(5e-3)
        )
    if name == "VICReg":
        head = heads.VICRegProjectionHead(width, 512, 512, num_layers=3)
        return TwoViews(head, losses.VICRegLoss())
    if name == "SimSiam":
        return SimSiam(
            heads.SimSiamProjectionHead(width, 512, 512),
            losses.NegativeCosineSimilarity(),
            heads.SimSiamPredictionHead(512, 128, 512),
        )
    if name == "BYOL":
        return BYOL(
            heads.BYOLProjectionHead(width, 512, 128),
            losses.NegativeCosineSimilarity(),
            heads.BYOLPredictionHead(128, 512, 128),
            momentum=(0.98, 1.0),
        )
    return MoCo(
        heads.MoCoProjectionHead(width, 512, 128),
        losses.NTXentLoss(temperature=0.2, memory_bank_size=(4096, 128)),
        momentum=(0.99, 0.999),
    )


class PairsOfViews(Dataset):
    """Pairs of views from lightly's transform, with the probabilities and sizes of ``Views()``."""

    def __init__(self, images):
        self.images = images
        self.transform = SimCLRTransform(
            input_size=16,
            cj_strength=1.0,
            cj_bright=0.4,
            cj_contrast=0.4,
            cj_sat=0.4,
            cj_hue=0.1,
            min_scale=0.1,
            gaussian_blur=0.0,
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i]))


def train_peer(name, X, epochs, seed):
    """Train with lightly's components; return the backbone and the seconds per step."""
    torch.manual_seed(seed)
    model = make_peer(name).to(DEVICE)
    base_lr = getattr(sklearn_ssl, name).lr
    optimizer = torch.optim.AdamW(parameter_groups(model, WEIGHT_DECAY), lr=base_lr)
    loader = DataLoader(
        PairsOfViews(X), BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    steps = epochs * len(loader)
    scaler = torch.amp.GradScaler(enabled=DEVICE.type == "cuda")
    began, step = time.perf_counter(), 0
    for _ in range(epochs):
        for first, second in loader:
            lr = base_lr * warmup_cosine((step + 0.5) / steps, WARMUP)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.autocast(DEVICE.type, torch.float16, enabled=DEVICE.type == "cuda"):
                loss = model(first.to(DEVICE), second.to(DEVICE))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            step += 1
            if model.momentum is not None:
                momentum = cosine_schedule(step, steps + 1, *model.momentum)
                update_momentum(model.backbone, model.average[0], momentum)
                update_momentum(model.projector, model.average[1], momentum)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return model.backbone, (time.perf_counter() - began) / steps


def make_ours(name, epochs, seed):
    return getattr(sklearn_ssl, name)(
        views=sklearn_ssl.Views(),
        batch_size=BATCH,
        weight_decay=WEIGHT_DECAY,
        warmup=WARMUP,
        max_epochs=epochs,
        random_state=seed,
    )


def run(name, side, X, X_test, y, y_test, epochs, seed):
    """Return the test accuracy of the probe, and the seconds per step."""
    if side == "ours":
        learner = make_ours(name, epochs, seed).fit(X)
        steps = epochs * (len(X) // BATCH)
        seconds = sum(row["seconds"] for row in learner.history_) / steps
    else:
        backbone, seconds = train_peer(name, X, epochs, seed)
        learner = make_ours(name, 0, seed).fit(X)
        learner.encoder_.backbone.load_state_dict(backbone.state_dict())
    probe = LinearProbe()
    probe.fit(learner.transform(X), y)
    return probe.score(learner.transform(X_test), y_test), seconds


def print_table(lines):
    print("| method | lightly, % | ours, % | time per step, lightly / ours |")
    print("|---|---|---|---|")
    for name in dict.fromkeys(line["method"] for line in lines):
        of = {
            side: [x for x in lines if (x["method"], x["side"]) == (name, side)] for side in SIDES
        }
        cells = []
        for side in SIDES:
            found = 100 * np.array([x["accuracy"] for x in of[side]])
            cells.append(cell(found))
        pairs = zip(of["lightly"], of["ours"], strict=False)
        ratios = [theirs["seconds_a_step"] / ours["seconds_a_step"] for theirs, ours in pairs]
        print(f"| {name} | {' | '.join(cells)} | {np.mean(ratios):.1f} |")


METHODS = ("SimCLR", "BYOL", "BarlowTwins", "VICReg", "MoCo", "SimSiam")
SIDES = ("lightly", "ours")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--output", type=Path, default=Path("equal_footing.jsonl"))
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="print the table of the output file")
    args = parser.parse_args()
    done = []
    if args.output.exists():
        done = [json.loads(line) for line in args.output.read_text().splitlines()]
    if args.table:
        print_table(done)
        return
    warnings.simplefilter("ignore", ConvergenceWarning)  # all probes have the same max_iter
    X, y = load_images(args.data)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=5_000, test_size=10_000, stratify=y, random_state=0
    )
    known = {(x["method"], x["side"], x["seed"]) for x in done}
    for seed, name, side in itertools.product(args.seeds, args.methods, SIDES):
        if (name, side, seed) in known:
            continue
        accuracy, seconds = run(name, side, X, X_test, y, y_test, args.epochs, seed)
        line = {"method": name, "side": side, "seed": seed, "epochs": args.epochs}
        add_line(args.output, {**line, "accuracy": accuracy, "seconds_a_step": seconds})


if __name__ == "__main__":
    main()
