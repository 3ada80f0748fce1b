"""What the recipe of minutes.py was chosen by: settings of SimCLR, on validation images.

    python examples/benchmarks/recipe.py --data cifar10/ --output recipe.jsonl
    python examples/benchmarks/recipe.py --output recipe.jsonl --table

Each is trained on the images that minutes.py may see, but for 4,000 that it is compared on, for
about as long as 500 seconds of two cores: epochs are fewer where an image takes longer. 10,000
images have labels. The test part of minutes.py is not looked at.
"""

import argparse
import json
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sklearn_ssl import KernelProbe, LinearProbe, PatchDictionary, SimCLR, Views
from sklearn_ssl.encoders import SmallResNet
from sklearn_ssl.metrics import rank_me_scorer

from data import cell, lines_in, load_images, machine  # isort: skip
from minutes import split  # isort: skip

LAYERS = ["layer2", "layer3", "layer4"]
STAGES = ["layer1", *LAYERS]
EPOCHS = 14  # of views of 20 pixels


class Growing(Callback):
    """Views that grow over the epochs, from one side to another."""

    def __init__(self, first, last):
        self.first = first
        self.last = last

    def on_epoch_begin(self, net, **kwargs):
        done = min(1.0, len(net.history) / max(1, EPOCHS - 1))
        net.module_.task.views.views.size = round(self.first + done * (self.last - self.first))


class Averaged(Callback):
    """An encoder whose weights are, in the end, an exponential average of those it had."""

    def __init__(self, decay):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        average = get_ema_multi_avg_fn(self.decay)
        encoder = net.module_.task.encoder
        self.average_ = AveragedModel(encoder, multi_avg_fn=average, use_buffers=True)

    def on_batch_end(self, net, training=True, **kwargs):
        self.average_.update_parameters(net.module_.task.encoder)

    def on_train_end(self, net, **kwargs):
        net.module_.task.encoder.load_state_dict(self.average_.module.state_dict())


class Muon(torch.optim.Optimizer):
    """Steps of convolutions are orthogonal matrices (Jordan et al. 2024); AdamW for the others.

    Steps are as large as those of AdamW on average (Liu et al. 2025), so that one ``lr`` fits.
    """

    def __init__(self, params, lr, weight_decay):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        others = [
            {**group, "params": [p for p in group["params"] if p.ndim != 4]}
            for group in self.param_groups
        ]
        self.others = torch.optim.AdamW(others, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure):
        with torch.enable_grad():
            output = closure()
        for group, others in zip(self.param_groups, self.others.param_groups, strict=True):
            others["lr"] = group["lr"]
            for p in group["params"]:
                if p.ndim == 4:
                    kept = self.state[p]
                    momentum = kept.setdefault("momentum", torch.zeros_like(p))
                    momentum.lerp_(p.grad, 0.05)
                    step = orthogonal(p.grad.lerp(momentum, 0.95).flatten(1))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(step.view_as(p), alpha=-0.2 * max(step.shape) ** 0.5 * group["lr"])
        self.others.step()
        return output


class WhitenedPatches(torch.nn.Module):
    """A first convolution that is not trained: atoms of a dictionary, for whitened patches."""

    def __init__(self, images, n_atoms):
        super().__init__()
        dictionary = PatchDictionary(n_atoms=n_atoms, patch_size=5, random_state=0).fit(images)
        found = dictionary.encoder_
        filters = found.atoms @ found.whitening
        filters -= filters.mean(1, keepdim=True)  # patches are compared without their mean
        self.register_buffer("filters", filters.view(n_atoms, -1, 5, 5))

    def forward(self, images):
        return torch.nn.functional.conv2d(images, self.filters, padding="same")


def network(width=32, stem=None):
    """What makes the default encoder of another width, or with another first convolution."""

    def build(in_channels, image_shape):
        encoder = SmallResNet(in_channels, image_shape[:2], width)
        if stem is not None:
            encoder.stem.conv1 = stem()
        return encoder

    return build


def orthogonal(matrix):
    """Singular values to about 1, by five steps of Newton and Schulz."""
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


def by_rank(ssl, images):
    """The layers whose features, together, have the greatest RankMe: chosen without labels."""
    chosen = [list(some) for n in range(1, 5) for some in combinations(STAGES, n)]
    return max(chosen, key=lambda some: rank_me_scorer(ssl.set_params(layer=some), images))


def settings(images):
    """What differs from views of 20 pixels and the defaults."""
    stem = partial(WhitenedPatches, images, 32)
    return {
        "views of 20 pixels": {},
        "views of 16 pixels": {"max_epochs": 20, "views": Views(size=16)},
        "views of 24 pixels": {"max_epochs": 10, "views": Views(size=24)},
        "views that grow from 16 to 24 pixels": {"callbacks": [Growing(16, 24)]},
        "two small crops beside the views": {"max_epochs": 10, "local_crops": 2},
        "crops from 0.05 of the area on": {"views": Views(size=20, crop_scale=(0.05, 1.0))},
        "crops from 0.2 of the area on": {"views": Views(size=20, crop_scale=(0.2, 1.0))},
        "batches of 512": {"batch_size": 512, "lr": 2.8e-3},
        "batches of 128": {"batch_size": 128, "lr": 1.4e-3},
        "temperature 0.1": {"temperature": 0.1},
        "temperature 0.5": {"temperature": 0.5},
        "projector of 2,048": {"hidden_dim": 2048},
        "embeddings of 512": {"projection_dim": 512},
        "lr 1e-3": {"lr": 1e-3},
        "lr 4e-3": {"lr": 4e-3},
        "lr that stays": {"schedule": "constant"},
        "weight decay 0.05": {"weight_decay": 0.05},
        "SGD": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4},
        "Muon for convolutions": {"optimizer": Muon},
        "averaged weights": {"callbacks": [Averaged(0.995)]},
        "encoder of 24 channels": {"max_epochs": 20, "encoder": network(24)},
        "encoder of 48 channels": {"max_epochs": 7, "encoder": network(48)},
        "whitened patches as the stem": {"encoder": network(stem=stem)},
        "layers by RankMe": {"layer": by_rank},
    }


def compared(ssl, images, labels, rows, seed):
    """Accuracies of SimCLR alone, mirrored, and mirrored beside a dictionary by a kernel."""
    train, validation = rows
    alone = LinearProbe()
    for name, mirror in {"linear": False, "mirrored": True}.items():
        ssl.set_params(mirror=mirror)
        known, found = ssl.transform(images[train]), ssl.transform(images[validation])
        yield name, alone.fit(known, labels[train]).score(found, labels[validation])
    dictionary = PatchDictionary(n_atoms=1600, mirror=True, random_state=seed)
    both = FeatureUnion(
        [
            ("dictionary", make_pipeline(dictionary, StandardScaler())),
            ("ssl", make_pipeline(FrozenEstimator(ssl), StandardScaler())),
        ],
        transformer_weights={"ssl": 2.0},
    )
    pipeline = make_pipeline(both, KernelProbe()).fit(images[train], labels[train])
    yield "both, kernel", pipeline.score(images[validation], labels[validation])


def print_table(lines):
    columns = ("linear", "mirrored", "both, kernel")
    print(f"| SimCLR | {' | '.join(columns)} | seeds |\n{'|---' * (len(columns) + 2)}|")
    for name in dict.fromkeys(line["setting"] for line in lines):
        found = [line for line in lines if line["setting"] == name]
        values = [[100 * line[column] for line in found] for column in columns]
        cells = [cell(v) for v in values]
        print(f"| {name} | {' | '.join(cells)} | {len(found)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--settings", nargs="*", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--output", type=Path, default=Path("recipe.jsonl"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    lines = lines_in(options.output)
    if options.table:
        print_table(lines)
        return
    print(machine())
    images, labels = load_images(options.data)
    done = {(line["setting"], line["seed"]) for line in lines}
    for seed in options.seeds:
        _, seen, _ = split(len(images), seed=0)
        rows = seen[:10_000], seen[-4000:]
        for name, how in settings(images[seen[:-4000]]).items():
            if (name, seed) in done or name not in (options.settings or [name]):
                continue
            how = {"max_epochs": EPOCHS, "views": Views(size=20), "layer": LAYERS, **how}
            layer = how.pop("layer")
            ssl = SimCLR(random_state=seed, **how).fit(images[seen[:-4000]])
            ssl.set_params(layer=layer(ssl, images[rows[0][:4000]]) if callable(layer) else layer)
            found = dict(compared(ssl, images, labels, rows, seed))
            line = {"setting": name, "seed": seed, "layer": ssl.layer, **found}
            with options.output.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
