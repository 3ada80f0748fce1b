"""The training of a learner's net, with what watches it and what saves it."""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sklearn.exceptions import ConvergenceWarning

from sklearn_ssl._utils._checkpoints import Checkpoint
from sklearn_ssl._utils._isolation import OwnRandomNumbers
from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl._utils._warnings import warn
from sklearn_ssl.base._identity import image_hashes, training_arguments
from sklearn_ssl.images import Images
from sklearn_ssl.inference import read_for

if TYPE_CHECKING:
    from sklearn_ssl.training import Checkpoints

__all__ = ["train"]


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
    """Train for so many epochs, or until a deadline on the monotonic clock.

    A stream has no end, and no checkpoints.
    """
    from sklearn_ssl.training import ProgressBar, SklearnCallbacks

    shown = learner.verbose if current_ranks().rank == 0 else 0
    bar = ProgressBar(type(learner).__name__, shown)
    watchers: list[Any] = [bar]
    if hasattr(learner, "_init_callback_context") and not streamed:
        fitted = functools.partial(learner._fitted_attributes, net, images)
        known = epochs if deadline is None else None
        watchers.append(SklearnCallbacks(learner, X, known, fitted))
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


@contextlib.contextmanager
def _opened(
    checkpoint: Any, learner: Any, net: Any, images: Images, seed: int, draws: OwnRandomNumbers
) -> Iterator["Checkpoints | None"]:
    """Checkpoints in a folder that nobody else trains in meanwhile; None if none are wanted."""
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
