"""Warnings that point at the line of the user."""

import sys
import warnings

__all__ = ["warn"]

_PASSED_THROUGH = {"contextlib", "joblib", "sklearn", "sklearn_ssl", "skorch", "torch"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the nearest caller outside of this package and of those that call it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_THROUGH
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
