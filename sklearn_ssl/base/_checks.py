"""Checks and decisions of a learner before it trains."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_ssl._utils._messages import naming, warn
from sklearn_ssl._utils._ranks import Ranks, current_ranks
from sklearn_ssl.base._identity import image_fingerprint, training_arguments
from sklearn_ssl.exceptions import (
    CollapseWarning,
    InterruptionWarning,
    StaleFeaturesWarning,
    TrainingInterrupted,
)
from sklearn_ssl.images import Images, learn_pixels, read_images

__all__ = [
    "all_or_nothing",
    "built_in",
    "check_alike",
    "check_unchanged",
    "choose_batch_size",
    "draw_seed",
    "fingerprint",
    "inner_training",
    "keep_or_forget",
    "lost_if_interrupted",
    "read_training_images",
    "refuse_images",
    "warn_of_features",
    "warn_of_interruption",
]

_NO_MEMORY = ("allocate memory", "Storage size calculation overflowed")  # of torch on a CPU

_IS_INNER: ContextVar[bool] = ContextVar("_IS_INNER", default=False)
_ALIKE_BY = 16  # images that processes compare
_COMPARED = 256  # images, evenly spread, to say whether all are the same
_COLLAPSED = 1e-3  # feature spread below which all images look the same


def all_or_nothing(method: Callable) -> Callable:
    """Make a fit that fails, even in its last line, leave the estimator as it was.

    An error of torch about a lack of memory on a CPU becomes a MemoryError.
    """

    @functools.wraps(method)
    def fit(self, *args, **kwargs):
        before = dict(vars(self))
        drawn_from: Any = getattr(self, "random_state", None)  # a probe draws nothing
        state = drawn_from.get_state() if hasattr(drawn_from, "get_state") else None
        try:
            return method(self, *args, **kwargs)
        except TrainingInterrupted:
            raise
        except BaseException as error:
            vars(self).clear()
            vars(self).update(before)
            if state is not None:
                drawn_from.set_state(state)
            if type(error) is RuntimeError and any(said in str(error) for said in _NO_MEMORY):
                less = "fewer samples or features"
                if hasattr(self, "batch_size"):
                    less = "smaller views, a smaller batch_size or a smaller network"
                raise MemoryError(f"{error}; try {less}") from error
            raise

    return fit


def built_in(learner: Any) -> dict[str, Any]:
    """Return the arguments that the network and its task were built from."""
    changeable = {name for name, known in learner._arguments.items() if known["changeable"]}
    params = learner.get_params(deep=True)
    nested = {name.partition("__")[0] for name in params if "__" in name}
    return {
        name: value
        for name, value in params.items()
        if changeable.isdisjoint(name.split("__")) and name not in nested
    }


def check_unchanged(learner: Any) -> None:
    """Raise ValueError if an argument that the network was built from has changed."""
    before, now = learner._built_in_, built_in(learner)
    changed = [name for name in before | now if before.get(name, "") != now.get(name, "")]
    if changed:
        raise ValueError(
            f"{', '.join(changed)} changed since the encoder was built, and cannot change in a "
            "continued fit; fit anew with warm_start=False"
        )


def read_training_images(learner: Any, X: Any, X_unlabeled: Any, continued: bool) -> Images:
    """Read all images to train on, and check that they have one shape and range of values."""
    shape = learner.image_shape_ if continued else None
    order = learner.channel_order
    images = read_images(
        X,
        estimator=learner,
        image_shape=learner.image_shape,
        channel_order=order,
        fitted_shape=shape,
        fitted_dtype=learner.net_.module_.pixels.dtype if continued else None,
        reading=learner._reading("replace"),
    )
    if X_unlabeled is not None:
        with naming("X_unlabeled"):
            more = read_images(
                X_unlabeled,
                estimator=learner,
                channel_order=order,
                fitted_shape=images.shape,
                fitted_dtype=images.dtype,
                min_images=1,
                reading=learner._reading("replace"),
                name="X_unlabeled",
            )
        if more.is_uint8 != images.is_uint8:
            raise ValueError(
                f"X has dtype {images.dtype} and X_unlabeled {more.dtype}; give both in one range "
                "of values, both as uint8 or both as floats"
            )
        if not (continued or images.is_uint8):
            pixels, _, _ = learn_pixels(images)
            more.origin = images.origin
            pixels.check(more, "X_unlabeled")
        images = Images(*images.arrays, *more.arrays, shape=images.shape)
    if continued:
        pixels = learner.net_.module_.pixels
        images.origin = pixels.origin
        pixels.check(images)
    return images


@contextlib.contextmanager
def inner_training() -> Iterator[None]:
    """Leave it to the caller to warn of interrupted fits of learners in the block.

    The user never sees these learners: what Ctrl-C leaves is what the estimator around them keeps.
    """
    token = _IS_INNER.set(True)
    try:
        yield
    finally:
        _IS_INNER.reset(token)


@contextlib.contextmanager
def lost_if_interrupted(outer: Any, inner: Any) -> Iterator[None]:
    """Warn that ``outer`` keeps nothing of an interrupted training of ``inner`` in the block."""
    try:
        with inner_training():
            yield
    except TrainingInterrupted:
        within, name = type(outer).__name__, type(inner).__name__
        goes_on = ""
        if getattr(inner, "checkpoint", None) is not None:
            goes_on = "; the same fit goes on from its checkpoint"
        warn(
            f"the training of {name} within {within} was interrupted, and {within} keeps nothing "
            f"of it. To keep what {name} learns, fit it first, and give FrozenEstimator(...) of "
            f"it{goes_on}",
            InterruptionWarning,
        )
        raise


def warn_of_interruption(learner: Any, kept_by: Any = None) -> None:
    """Warn that the learner, or an estimator around it, has what it learned until Ctrl-C."""
    if _IS_INNER.get():
        return
    goes_on = "" if learner.checkpoint is None else "; the same fit goes on from its checkpoint"
    name = type(learner if kept_by is None else kept_by).__name__
    warn(
        f"the training was interrupted after {learner.n_epochs_} epochs; {name} has what it "
        f"learned until then{goes_on}",
        InterruptionWarning,
    )


def fingerprint(task: Any, images: Images) -> str | None:
    """Return a hash of the images (of many, of a sample) if a task keeps some of them, or None."""
    return image_fingerprint(images) if task.keeps_images else None


def keep_or_forget(learner: Any, task: Any, images: Images, streamed: bool) -> None:
    """Drop what a task keeps of images that a continued fit does not have.

    Images of a stream come one after the other, and queues go on over them.
    """
    if fingerprint(task, images) == learner._fingerprint_:
        return
    if task.n_images is not None:
        raise ValueError(
            f"{type(learner).__name__} keeps something of each image of the first fit, which had "
            f"{task.n_images}; a continued fit needs the same ones in their order, and not "
            f"{len(images)} others"
        )
    if not streamed:
        task.forget()


def choose_batch_size(learner: Any, n_images: int, cut: bool) -> int:
    """Return the given batch size, cut to the images if ``cut`` allows it, or a default."""
    wanted, n_ranks = learner.batch_size, current_ranks().size
    if wanted is None:
        size = min(learner._usual_batch_size, max(2, n_images // 4))
    elif wanted > n_images and not cut:
        raise ValueError(
            f"batch_size={wanted} is larger than the number of images, {n_images}; give a smaller "
            "one, or None to have it chosen"
        )
    else:
        size = min(wanted, n_images)
    if size % n_ranks:
        raise ValueError(
            f"batch_size={wanted}, which is {size} for {n_images} images, cannot be shared out to "
            f"{n_ranks} processes; give a multiple of {n_ranks}"
        )
    return size


def check_alike(ranks: Ranks, learner: Any, images: Images, epochs: int, continued: bool) -> None:
    """Raise ValueError if processes that train together were given different things."""
    if ranks.size == 1:
        return
    own = {
        "class": type(learner).__name__,
        **training_arguments(learner),
        "epochs": epochs,
        "epochs before": learner.n_epochs_ if continued else 0,
        "memory": str(learner.memory),
        "checkpoint": str(learner.checkpoint),
        "images": f"{images.shape} {images.dtype} {image_fingerprint(images, _ALIKE_BY)}",
    }
    for rank, other in enumerate(ranks.gathered(own)):
        if different := [name for name in own if own[name] != other.get(name)]:
            raise ValueError(
                f"processes {ranks.rank} and {rank} of {ranks.size}, which train together, differ "
                f"in {', '.join(different)}. Each has to run the same script on the same images in "
                "the same order"
            )


def draw_seed(learner: Any, continued: bool) -> int:
    """Return the seed of a fit; a continued one goes on with other numbers."""
    if learner.random_state is None:  # numpy's global generator is not ours to advance
        return int(np.random.default_rng().integers(2**31))
    seed = int(check_random_state(learner.random_state).randint(2**31 - 1))
    return seed + (learner.n_epochs_ if continued else 0)


def refuse_images(y: Any, X: Any) -> None:
    """Raise ValueError if images were given as labels, mostly in place of ``X_unlabeled``."""
    shape = _shape(y)
    if len(shape) > 2 or (len(shape) == 2 and shape[1] == np.prod(_shape(X)[1:]) >= 16):
        raise ValueError(
            f"y has shape {shape}, which looks like images, and would be ignored; give more images "
            "to pretrain on as fit(X, X_unlabeled=...)"
        )


def warn_of_features(learner: Any, images: Images, continued: bool, trained: bool) -> None:
    """Warn of features that are the same for all images, or that others hold in an older state."""
    name = type(learner).__name__
    if trained and (spread := learner.history_[-1]["feature_spread"]) < _COLLAPSED:
        why = (
            f"{min(len(images), _COMPARED)} images of X were compared, and all are the same. Look "
            "at how they were read and scaled"
            if _are_identical(images)
            else "the representation has collapsed. Try a smaller lr, a larger batch_size, or "
            "another random_state"
        )
        warn(
            f"the features of {name} are nearly the same for all images (spread {spread:.1e}): "
            f"{why}",
            CollapseWarning,
        )
    given = learner.__dict__.pop("_features_given_", False)
    if continued and given:
        warn(
            f"{name} goes on training, so its features change: what was fitted to those of before, "
            "as the later steps of a pipeline, has to be fitted again",
            StaleFeaturesWarning,
        )


def _are_identical(images: Images) -> bool:
    """Return whether no image differs from the first, of as many as are compared."""
    rows = np.linspace(0, len(images) - 1, min(len(images), _COMPARED)).astype(int)
    some = images.take(rows)
    return bool((some == some[:1]).all())


def _shape(given: Any) -> tuple[int, ...]:
    """Return the shape of arrays and frames; for lists, as seen from their first element."""
    if isinstance(given, (list, tuple)) and len(given):
        return (len(given), *_shape(given[0]))
    return tuple(getattr(given, "shape", ()))
