"""Checks of what displays are given; errors name the argument."""

from collections.abc import Sized
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.base import ImageTransformer

__all__ = [
    "check_axes",
    "check_columns",
    "check_folds",
    "check_history",
    "check_learner",
    "check_pictures",
]


def check_learner(estimator: Any) -> None:
    """Raise TypeError if ``estimator`` is no learner, and NotFittedError if it is not fitted."""
    if not isinstance(estimator, ImageTransformer):
        raise TypeError(
            f"estimator is {_kind(estimator)}; give a fitted learner, as SimCLR().fit(X) is"
        )
    check_is_fitted(estimator)


def check_history(estimator: Any) -> list[dict[str, Any]]:
    """Return the history of an estimator that was trained.

    Raises
    ------
    TypeError, NotFittedError
        If there is none.
    """
    if isinstance(estimator, BaseEstimator):
        check_is_fitted(estimator)
    if isinstance(estimator, type) or not hasattr(estimator, "history_"):
        raise TypeError(
            f"estimator is {_kind(estimator)}, which has no history_; give what was trained, as "
            "SimCLR().fit(X) is"
        )
    return estimator.history_


def check_folds(cv: Any, labels: np.ndarray) -> None:
    """Raise ValueError for a cross-validation that these labels are too few for."""
    if isinstance(cv, Sized) and len(cv) == 0:
        raise ValueError(f"cv={cv!r} has no folds")
    n_folds = 5 if cv is None else cv
    most = int(np.unique(labels, return_counts=True)[1].max())
    if isinstance(n_folds, Integral) and most < int(n_folds):
        raise ValueError(
            f"cv={cv!r} needs {n_folds} labels of a class, and y has {most} of each at most; give "
            "more labels, or a smaller cv"
        )


def check_axes(ax: Any) -> None:
    """Raise TypeError if ``ax`` cannot be drawn on."""
    if isinstance(ax, type) or not hasattr(ax, "get_figure"):
        raise TypeError(f"ax is {_kind(ax)}; give None or axes of matplotlib")


def check_columns(table: Any, name: str, wanted: list[str]) -> None:
    """Raise TypeError if ``table`` is no data frame, and ValueError if it lacks columns."""
    if isinstance(table, type) or not hasattr(table, "columns"):
        raise TypeError(f"{name} is {_kind(table)}; give a data frame")
    if missing := [column for column in wanted if column not in list(table.columns)]:
        has = list(map(str, table.columns))
        raise ValueError(
            f"{name} has no column {', '.join(map(repr, missing))}; it has {', '.join(has)}."
            f"{did_you_mean(missing[0], has)}"
        )
    if len(table) == 0:
        raise ValueError(f"{name} has no rows")


def check_pictures(images: Any, n_dims: int) -> None:
    """Raise ValueError unless ``images`` are arrays of images (..., height, width, channels)."""
    shape = getattr(images, "shape", ())
    if not isinstance(images, np.ndarray) or images.dtype.kind != "f":
        raise TypeError(f"images is {_kind(images)}; give an array of floats in [0, 1]")
    if images.ndim != n_dims or 0 in shape:
        raise ValueError(
            f"images has shape {shape}; give an array of {n_dims} dimensions, of which the last "
            "ones are height, width and channels, and none is empty"
        )


def _kind(given: Any) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}"
    name = type(given).__name__
    return "None" if given is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
