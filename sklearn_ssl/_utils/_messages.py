"""Warnings and errors as the user reads them: at the right line, with the right names."""

import contextlib
import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["did_you_mean", "naming", "warn"]

_PASSED_THROUGH = {"contextlib", "joblib", "sklearn", "sklearn_ssl", "skorch", "torch"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the nearest caller outside of this package and the libraries that call it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """Return a sentence, after a space, that suggests similar known names, or an empty string.

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
    """Make errors name ``argument`` where those about images say X.

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
    except OverflowError as error:  # an integer that no float can hold
        raise ValueError(f"{argument}: {error}") from error
