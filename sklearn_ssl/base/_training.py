"""The training of a learner's net, with what watches it and what saves it."""

import contextlib
import functools
import importlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssl._utils._checkpoints import Checkpoint
from sklearn_ssl._utils._isolation import OwnRandomNumbers
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl.base._identity import image_hashes, training_arguments
from sklearn_ssl.encoders import import_library
from sklearn_ssl.exceptions import LittleTrainingWarning
from sklearn_ssl.images import Images
from sklearn_ssl.inference import apply, read_for
from sklearn_ssl.metrics import linear_cka

if TYPE_CHECKING:
    from sklearn_ssl.training import Checkpoints

__all__ = ["Moved", "clock_started", "train"]

_IMAGES_SEEN = 512
_IMAGES_NEEDED = 4  # by the debiased estimator
_FEW_IMAGES = 10
_SEEN_ONCE = 0.95  # a last, smaller batch is left out of an epoch


def clock_started(*encoders: Any) -> float:
    """Import all that a first training needs, and return the time of the monotonic clock."""
    importlib.import_module("sklearn_ssl.training")
    for encoder in encoders:
        import_library(encoder)
    # with its first optimizer torch imports its compiler, 900 modules
    torch.optim.SGD([torch.zeros(1, device="cpu")], lr=1.0)
    return time.monotonic()


def train(
    learner: Any,
    net: Any,
    draws: OwnRandomNumbers,
    images: Images,
    epochs: int,
    *,
    X: Any,
    seed: int,
    streamed: bool,
    deadline: float | None = None,
) -> None:
    """Train for ``epochs`` epochs, or until a deadline on the monotonic clock.

    A stream has no end, and no checkpoints.
    """
    from sklearn_ssl.training import LoadWatch, ProgressBar, SklearnCallbacks

    shown = learner.verbose if current_ranks().rank == 0 else 0
    bar = ProgressBar(type(learner).__name__, shown)
    watchers: list[Any] = [bar]
    if hasattr(learner, "_init_callback_context") and not streamed:
        fitted = functools.partial(learner._fitted_attributes, net, images)
        known = epochs if deadline is None else None
        watchers.append(SklearnCallbacks(learner, X, known, fitted))
    if net.device == "cpu" and current_ranks().rank == 0:
        watchers.append(LoadWatch())
    checkpoint = None if streamed else learner.checkpoint
    with contextlib.closing(bar), _opened(checkpoint, learner, net, images, seed, draws) as saved:
        constant = streamed or learner.schedule == "constant"
        net.train(
            images,
            epochs,
            draws,
            read=functools.partial(
                read_for,
                net,
                channel_order=learner.channel_order,
                reading=learner._reading("blank"),
            ),
            skips=learner.on_error == "skip",
            seconds=None if deadline is None else max(deadline - time.monotonic(), 1e-3),
            constant_lr=constant,
            watchers=watchers,
            checkpoints=saved,
        )
    if deadline is not None and net.holds_encoder():
        warn(
            f"time_budget={learner.time_budget:g} was over in the first {net.frozen_epochs} "
            "epochs, in which frozen_epochs holds the encoder: it is as it was; give it more time",
            ConvergenceWarning,
        )
    elif deadline is not None:
        _warn_of_little_time(learner, net, len(images))
    if not streamed and (epochs or deadline is not None) and len(images) < _FEW_IMAGES:
        warn(
            f"the training had {len(images)} images, of which little can be learned; give it more, "
            "or take a PretrainedEncoder, which needs none",
            LittleTrainingWarning,
        )


def _warn_of_little_time(learner: Any, net: Any, n_images: int) -> None:
    seen = sum(row["images"] for row in net.history[net.epochs_before_ :])
    if seen <= net.batch_size or seen < _SEEN_ONCE * n_images:
        steps = "a single step" if seen <= net.batch_size else f"{seen // net.batch_size} steps"
        warn(
            f"time_budget={learner.time_budget:g} was over after {steps}: the training saw each "
            f"image {seen / n_images:.2g} times. Give it more time, or a smaller network or views",
            LittleTrainingWarning,
        )


@contextlib.contextmanager
def _opened(
    checkpoint: Any, learner: Any, net: Any, images: Images, seed: int, draws: OwnRandomNumbers
) -> Iterator["Checkpoints | None"]:
    """Yield checkpoints in a folder that is locked meanwhile, or None if none are wanted."""
    if checkpoint is None:
        yield None
        return
    from sklearn_ssl.training import Checkpoints

    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    training = {
        "class": type(learner).__name__,
        **training_arguments(learner),
        "seed": None if learner.random_state is None else seed,
        "epochs before": len(net.history),
        "images": f"{len(images)} of {images.shape}, {images.dtype}",
        "pixels": image_hashes(images),
    }
    with contextlib.ExitStack() as stack:
        current_ranks().first(lambda: stack.enter_context(checkpoint.opened()))
        yield Checkpoints(checkpoint, training, draws)


class Moved:
    """Features of some images before a training, to compare with those after it.

    Parameters
    ----------
    net : PretextNet
        Before it is trained.
    images : Images
        Those that are trained on, of which 512 at most are looked at.
    """

    def __init__(self, net: Any, images: Images):
        rows = np.unique(np.linspace(0, len(images) - 1, _IMAGES_SEEN).astype(int))
        pixels = images.take(rows).permute(0, 2, 3, 1).numpy()
        self.images = Images(pixels, shape=images.shape)
        self.before = self._features(net)

    def record(self, net: Any) -> None:
        """Add ``moved`` to the last epoch of the net's history: 1 minus debiased linear CKA.

        Of fewer than four images it is not known, and not added.
        """
        if len(self.before) >= _IMAGES_NEEDED:
            net.history.record("moved", 1 - linear_cka(self.before, self._features(net)))

    def _features(self, net: Any) -> np.ndarray:
        encoder = net.encoder
        wanted = [(encoder.default_layer, "avg")]
        return apply(net, lambda pixels: encoder.features(pixels, wanted), self.images)
