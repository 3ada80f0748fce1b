"""What runs on several processes for test_distributed.py, and in it on one: a script for torchrun.

``python on_ranks.py FUNCTION FOLDER`` saves what the function gives as FOLDER/RANK.pt.
"""

import copy
import os
import signal
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from conftest import LEARNERS, TinyNet, make_images, small
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sklearn_ssl import FineTunedClassifier, MoCo, RotationPrediction, SimCLR, Views
from sklearn_ssl._utils._torch import _DRAW, _DRAW_LIKE, _DROP, OwnRandomNumbers

DRAWS = {*_DRAW, *_DRAW_LIKE, *_DROP}
RANK = int(os.environ.get("RANK", 0))
SIZE = int(os.environ.get("WORLD_SIZE", 1))
# learners that cut images into patches or tiles, and then draw for them one image after the other
BY_IMAGE = {"CPC", "LearningToCount", "RelativePatchLocation"}


class SameDraws(TorchFunctionMode):
    """A mode in which each process draws what one would draw for its rows of the whole batch.

    What has as many rows as the process has images, or a multiple, is drawn for all of them.
    """

    def __init__(self, n, by_image):
        super().__init__()
        self.n = n
        self.by_image = by_image

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in DRAWS:
            return func(*args, **kwargs)
        if func in (torch.rand, torch.randn):
            args = (torch.empty(*args, **kwargs),)
            func, kwargs = Tensor.uniform_ if func is torch.rand else Tensor.normal_, {}
        elif func is torch.randint:
            *bounds, size = args
            args = (torch.empty(size, dtype=torch.int64), *[0, *bounds][-2:])
            func, kwargs = Tensor.random_, {}
        like = args[0] if args and isinstance(args[0], Tensor) else None
        if like is None or not like.ndim:
            return func(*args, **kwargs)
        if len(like) % self.n and like.ndim > 1 and like.shape[1] == self.n:  # rows come second
            for_all = func(torch.cat([like] * SIZE, dim=1), *args[1:], **kwargs)
            return like.copy_(for_all.narrow(1, RANK * self.n, self.n))
        if len(like) % self.n:
            return func(*args, **kwargs)  # the same in all processes
        groups = (1, len(like)) if self.by_image else (len(like) // self.n, self.n)
        rows = like.unflatten(0, groups)[:, None].expand(-1, SIZE, *(-1,) * like.ndim)
        for_all = func(rows.flatten(0, 2).clone(), *args[1:], **kwargs)
        drawn = for_all.unflatten(0, (groups[0], SIZE, groups[1]))[:, RANK].flatten(0, 1)
        return like.copy_(drawn) if func.__name__.endswith("_") else drawn


def with_same_draws(learner):
    """Make a learner's task draw what one process would, in a fit on several."""
    if SIZE == 1:
        return
    OwnRandomNumbers.restart_for = lambda self, rank: None
    by_image, make = type(learner).__name__ in BY_IMAGE, learner._make_task

    def made(*args):
        task = make(*args)
        forward = task.forward

        def drawn(images, index):
            with SameDraws(len(images), by_image):
                return forward(images, index)

        task.forward = drawn
        return task

    learner._with_python_scalars = lambda: learner
    learner._make_task = made


class Noted(Callback):
    """Gradients of the first step."""

    def on_train_begin(self, net, **kwargs):
        self.gradients = None

    def on_grad_computed(self, net, **kwargs):
        if self.gradients is None:
            parameters = net.module_.named_parameters()
            self.gradients = {n: p.grad.cpu().clone() for n, p in parameters if p.grad is not None}


def said_of(learner, X, **options):
    """Losses, gradients, all that is learned, and features."""
    noted = Noted()
    learner.set_params(callbacks=[noted], precision="float32", **options)
    with_same_draws(learner)
    learner.fit(X)
    learner.net_.module_.task.__dict__.pop("forward", None)
    batches = [batch["train_loss"] for epoch in learner.net_.history for batch in epoch["batches"]]
    return {
        "losses": torch.tensor(batches),
        "gradients": noted.gradients,
        "module": {n: v.cpu() for n, v in learner.net_.module_.state_dict().items()},
        "features": torch.from_numpy(learner.transform(X)),
        "seconds": [row["seconds"] for row in learner.history_],
    }


def every_learner(folder):
    X = make_images()
    options = {"batch_size": 24, "max_epochs": 2}
    return {name: said_of(small(Learner, **options), X) for name, Learner in LEARNERS}


def on_one_gpu(folder):
    """Processes that share a GPU, over gloo: NCCL wants one for each."""
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    return {name: said_of(learner, X, device="cuda") for name, learner, X in kinds_of(folder)}


def kinds(folder):
    return {name: said_of(learner, X) for name, learner, X in kinds_of(folder)}


def kinds_of(folder):
    """A few that differ in what depends on rows: negatives, files, draws of networks and views."""
    X = make_images()
    all_of_it = {"rotate": True, "noise": 0.1, "erase": 0.4, "blur": 0.5, "solarize": (0.1, 0.3)}
    learners = {
        "SimCLR": SimCLR(encoder=TinyNet),
        "dropped": RotationPrediction(encoder=DrawingNet, views=Views(size=8)),
        "views": SimCLR(encoder=TinyNet, views=Views(size=12, **all_of_it)),
        "files": SimCLR(encoder=TinyNet, image_shape=(8, 8, 3)),
        "deep": SimCLR(encoder="small_resnet"),
    }
    files = write_files(Path(folder))
    for name, learner in learners.items():
        learner.set_params(batch_size=24, max_epochs=2, random_state=0)
        yield name, learner, files if name == "files" else X


class DrawingNet(nn.Sequential):
    """Dropout of values and channels, and stochastic depth as torchvision draws it."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 1, 1), nn.Dropout2d(0.3), nn.ReLU())
        self.out = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.Dropout(0.2), Depth(), nn.ReLU())


class Depth(nn.Module):
    def forward(self, x):
        keep = x.new_empty((len(x), 1, 1, 1)).bernoulli_(0.8)
        return x * keep + torch.rand(len(x), 1, 1, 1, device=x.device)


def write_files(folder):
    """Files of three sizes, which the process writes that starts the others."""
    paths = [str(folder / f"{row:02d}.png") for row in range(48)]
    if "RANK" not in os.environ:
        images = make_images(height=20, width=24)
        for row, (path, image) in enumerate(zip(paths, images, strict=True)):
            Image.fromarray(image[: 20 - row % 3]).save(path)
    return paths


def resumed(folder):
    """Two epochs of four, ended by Ctrl-C on the first rank; or, called again, the rest."""
    place = Path(folder) / "checkpoints"
    goes_on = place.exists()

    class Watch(Callback):
        def on_train_begin(self, net, **kwargs):
            self.start = copy.deepcopy(net.module_.state_dict())
            self.optimizer = copy.deepcopy(net.optimizer_.state_dict()["state"])

        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2 and not goes_on and RANK == 0:
                os.kill(os.getpid(), signal.SIGINT)

    watch = Watch()
    learner = small(MoCo, batch_size=24, checkpoint=place, callbacks=[watch])
    learner.set_params(max_epochs=4, queue_size=20)
    try:
        learner.fit(make_images())
    except KeyboardInterrupt:
        assert learner.n_epochs_ == 2
    return {
        "start": watch.start,
        "optimizer": watch.optimizer,
        "module": learner.net_.module_.state_dict(),
        "trained": learner.net_.optimizer_.state_dict()["state"],
        "epochs": learner.n_epochs_,
    }


def with_own_draws(folder):
    """Accuracy of a probe on features of digits, for some seeds."""
    digits = load_digits()
    X, y = digits.images, digits.target
    probe, scores = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)), []
    for seed in range(3):
        ssl = SimCLR(max_epochs=2, batch_size=64, random_state=seed, precision="float32")
        F = ssl.fit(X[:600]).transform(X)
        scores.append(probe.fit(F[:300], y[:300]).score(F[900:], y[900:]))
    return {"scores": torch.tensor(scores), "module": ssl.net_.module_.state_dict()}


def weighted(folder):
    """A network that is fine-tuned with weights of classes, on images as they are."""
    still = Views(crop_scale=None, flip=0, jitter=None, gray=0, blur=0)
    X, y = make_images(), np.arange(48) % 3
    tuned = FineTunedClassifier(
        encoder=TinyNet,
        class_weight={0: 5.0, 1: 1.0, 2: 0.1},
        views=still,
        batch_size=24,
        max_epochs=1,
        precision="float32",
        random_state=0,
    ).fit(X, y)
    return {"loss": torch.tensor(tuned.history_[0]["train_loss"])}


def limited(folder):
    """A training of so many seconds, which the last rank begins later."""
    time.sleep(RANK)
    learner = small(SimCLR, batch_size=8, time_budget=6.0, max_epochs=1).fit(make_images())
    return {"module": learner.net_.module_.state_dict(), "seen": learner.n_images_seen_}


def remembered(folder):
    """A pretraining that is kept, and taken by all."""
    X = make_images()
    learner = small(SimCLR, batch_size=24, memory=Path(folder) / "memory")
    first = learner.fit(X).net_.module_.state_dict()
    again = learner.fit(X).net_.module_.state_dict()
    return {"first": first, "again": again}


def strayed(folder):
    """A network that each rank initializes by numbers of its own, and changes by a callback."""

    class Own(TinyNet):
        def __init__(self, channels=3):
            super().__init__(channels)
            for parameter in self.parameters():
                nn.init.constant_(parameter, 0.01 * (1 + RANK))

    class Stray(Callback):
        def on_train_begin(self, net, **kwargs):
            self.start = {n: v.clone() for n, v in net.module_.state_dict().items()}

        def on_epoch_end(self, net, **kwargs):
            with torch.no_grad():
                for parameter in net.module_.parameters():
                    parameter.add_(RANK)

    stray = Stray()
    learner = small(SimCLR, encoder=Own, batch_size=24, callbacks=[stray]).fit(make_images())
    return {"start": stray.start, "module": learner.net_.module_.state_dict()}


def refused(folder):
    """What each rank says of what cannot be trained on two."""
    X = make_images()
    given = {
        "batch": (small(SimCLR, batch_size=25), X),
        "images": (small(SimCLR, batch_size=24), X + np.uint8(RANK)),
        "arguments": (small(SimCLR, batch_size=24, temperature=0.1 + RANK), X),
    }
    said = {}
    for name, (learner, images) in given.items():
        try:
            learner.fit(images)
        except ValueError as error:
            said[name] = str(error)
    with ThreadPool(1) as pool:
        try:
            pool.apply(small(SimCLR, batch_size=24).fit, (X,))
        except ValueError as error:
            said["threads"] = str(error)
    return said


def killed(folder):
    """The last rank is killed in the third step."""

    class Kill(Callback):
        def on_batch_end(self, net, **kwargs):
            if net.progress_.done == 3 and RANK == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    small(SimCLR, batch_size=8, max_epochs=50, callbacks=[Kill()]).fit(make_images())


if __name__ == "__main__":
    torch.save(globals()[sys.argv[1]](sys.argv[2]), Path(sys.argv[2]) / f"{RANK}.pt")
