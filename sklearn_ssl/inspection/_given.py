"""Checks of the arguments of displays and reports; errors name the argument."""

from collections.abc import Sized
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.base import ImageTransformer


def check_learner(estimator: Any) -> None:
    """Raise TypeError if ``estimator`` is not a learner, NotFittedError if it is not fitted."""
    if not isinstance(estimator, ImageTransformer):
        raise TypeError(
            f"estimator is {_kind(estimator)}; give a fitted learner, such as SimCLR().fit(X)"
        )
    check_is_fitted(estimator)


def check_history(estimator: Any) -> list[dict[str, Any]]:
    """Return the history of a trained estimator.

    Raises
    ------
    TypeError, NotFittedError
        If it has none.
    """
    if isinstance(estimator, BaseEstimator):
        check_is_fitted(estimator)
    if isinstance(estimator, type) or not hasattr(estimator, "history_"):
        raise TypeError(
            f"estimator is {_kind(estimator)}, which has no history_; give a trained learner, such "
            "as SimCLR().fit(X)"
        )
    return estimator.history_


def check_folds(cv: Any, labels: np.ndarray) -> None:
    """Raise ValueError if there are too few labels for this cross-validation."""
    if isinstance(cv, Sized) and len(cv) == 0:
        raise ValueError(f"cv={cv!r} has no folds")
    n_folds = 5 if cv is None else cv
    most = int(np.unique(labels, return_counts=True)[1].max())
    if isinstance(n_folds, Integral) and most < int(n_folds):
        raise ValueError(
            f"cv={cv!r} needs {n_folds} labels of a class, but y has at most {most} of any class; "
            "give more labels, or a smaller cv"
        )


def check_axes(ax: Any) -> None:
    """Raise TypeError if ``ax`` cannot be drawn on."""
    if isinstance(ax, type) or not hasattr(ax, "get_figure"):
        raise TypeError(f"ax is {_kind(ax)}; give None or matplotlib axes")


def check_columns(table: Any, name: str, wanted: list[str]) -> None:
    """Raise TypeError if ``table`` is not a data frame, ValueError if it lacks columns or rows."""
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
    """Raise TypeError or ValueError unless images are floats (..., height, width, channels)."""
    shape = getattr(images, "shape", ())
    if not isinstance(images, np.ndarray) or images.dtype.kind != "f":
        raise TypeError(f"images is {_kind(images)}; give an array of floats in [0, 1]")
    if images.ndim != n_dims or 0 in shape:
        raise ValueError(
            f"images has shape {shape}; give a non-empty array of {n_dims} dimensions that ends in "
            "height, width and channels"
        )


def _kind(given: Any) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}"
    name = type(given).__name__
    return "None" if given is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
