"""Warnings and errors for the user: with the right line, and the right argument names."""

import contextlib
import difflib
import os
import re
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from sklearn_ssl.exceptions import InterruptionWarning, TrainingInterrupted

_PASSED_THROUGH = {"contextlib", "joblib", "sklearn", "sklearn_ssl", "skorch", "torch"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn, at the line of the nearest caller outside this package and the libraries it uses."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def in_cross_validation() -> bool:
    """Return whether this is a fit in a fold of scikit-learn's cross-validation or search."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__"), frame.f_code.co_name
        if name == ("sklearn.model_selection._validation", "_fit_and_score"):
            return True
        frame = frame.f_back
    return False


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """Return a sentence that suggests similar known names, with a leading space, or "".

    Examples
    --------
    >>> from sklearn_ssl._utils._messages import did_you_mean
    >>> did_you_mean("ResNet-18", ["resnet18", "vit_b_16"])
    " Did you mean 'resnet18'?"
    """
    if not isinstance(given, str):
        return ""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), by_lower, cutoff=0.65)
    if not close:
        return ""
    *others, last = (repr(by_lower[name]) for name in close)
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


@contextlib.contextmanager
def naming(argument: str) -> Iterator[None]:
    """Make errors about images name ``argument`` instead of X.

    Examples
    --------
    >>> from sklearn_ssl._utils._messages import naming
    >>> with naming("queries"):
    ...     raise ValueError("X has no images")
    Traceback (most recent call last):
    ValueError: queries has no images
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        said = str(error)
        named = re.sub(r"^((?:Input |row \d+ of )?)X\b", rf"\g<1>{argument}", said)
        error.args = (named if argument in named else f"{argument}: {said}",)
        raise
    except OverflowError as error:  # an integer too large for a float
        raise ValueError(f"{argument}: {error}") from error


@contextlib.contextmanager
def failure_named(message: str, path: str | os.PathLike) -> Iterator[None]:
    """Make an OSError say what failed, at which path; ``{}`` in the message is the reason."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, message.format(error.strerror), os.fspath(path)) from error


# Interrupted training runs

_IS_INNER: ContextVar[bool] = ContextVar("_IS_INNER", default=False)


@contextlib.contextmanager
def inner_training() -> Iterator[None]:
    """Suppress warnings of interrupted fits in the block; the caller warns instead.

    The user never sees the learners fitted there, only the estimator around them.
    """
    token = _IS_INNER.set(True)
    try:
        yield
    finally:
        _IS_INNER.reset(token)


@contextlib.contextmanager
def lost_if_interrupted(outer: Any, inner: Any) -> Iterator[None]:
    """Warn that ``outer`` keeps nothing of ``inner`` if its fit in the block is interrupted."""
    try:
        with inner_training():
            yield
    except TrainingInterrupted:
        within, name = type(outer).__name__, type(inner).__name__
        goes_on = ""
        if getattr(inner, "checkpoint", None) is not None:
            goes_on = "; the same fit resumes from its checkpoint"
        warn(
            f"the training of {name} within {within} was interrupted, and {within} keeps nothing "
            f"of it. To keep what {name} learns, fit it first and pass it in a "
            f"FrozenEstimator{goes_on}",
            InterruptionWarning,
        )
        raise


def warn_of_interruption(learner: Any, kept_by: Any = None) -> None:
    """Warn that the learner, or an estimator around it, keeps what it learned before Ctrl-C."""
    if _IS_INNER.get():
        return
    goes_on = "" if learner.checkpoint is None else "; the same fit resumes from its checkpoint"
    name = type(learner if kept_by is None else kept_by).__name__
    warn(
        f"training was interrupted after {learner.n_epochs_} epochs; {name} keeps what it has "
        f"learned so far{goes_on}",
        InterruptionWarning,
    )
