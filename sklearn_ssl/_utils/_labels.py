"""Labels in all their forms, and which of them are missing.

There is one rule for all functions that take labels: None, NaN, pandas' NA, masked entries and -1
mean that there is no label, whatever holds them. In text, "", "-1", "-1.0", "nan" and "<NA>" do,
which is what NumPy and pandas make of those. Where 1 is the only other label, -1 and 1 are two
classes.
"""

import sys
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import LabelWarning

_NO_TEXT = ("", "nan", "<NA>")
_MINUS_ONE_AS_TEXT = ("-1", "-1.0")
_ONE_AS_TEXT = ("1", "1.0")


def read_labels(
    y: Any, n_rows: int | None = None, *, classes: Any = None, multilabel: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the rows that have one, and a mask of these rows.

    Parameters
    ----------
    y : array-like of shape (n,)
    n_rows : int, optional
        Number of images or samples, which ``y`` has to have, too.
    classes : ndarray, optional
        Those that an estimator was fitted to: -1 is a label if it is one of them. Without them it
        is a label only where 1 is the only other one, with a warning.
    multilabel : bool, default=False
        Whether ``y`` may have several columns, of 1 where an image is of a class and 0 elsewhere.
        A row has labels if all of its values are there.

    Returns
    -------
    labels : ndarray of shape (n_labeled,), or (n_labeled, n_classes) of integers
        Numbers or text, in the order of the rows.
    is_labeled : ndarray of shape (n,), bool

    Raises
    ------
    ValueError, TypeError
        If there are no labels, not as many as rows, of several types, or no classes.
    """
    values = _as_array(y)
    _check_number(values, n_rows)
    if multilabel and _has_columns(values):
        return _read_indicators(values, is_fit=classes is None)
    values = column_or_1d(values, warn=True)
    absent, minus_one = _where(values, is_absent), _where(values, _is_minus_one)
    others = _of_one_type(values[~(absent | minus_one)])
    if classes is not None:
        is_class = bool(_where(np.asarray(classes), _is_minus_one).any())
    else:
        is_class = bool(minus_one.any()) and len(others) > 0 and _are_ones(others)
        if is_class:
            warn(
                "y has -1 and 1 only, which are taken as two classes; if -1 marks images without a "
                "label, there is one class, and nothing to tell apart",
                LabelWarning,
            )
    is_labeled = ~absent if is_class else ~(absent | minus_one)
    labels = _of_one_type(values[is_labeled]) if is_class else others
    _check_some(labels, len(values))
    check_classification_targets(labels)
    if classes is None:
        _warn_of_wrapped(labels)
    return labels, is_labeled


def read_targets(y: Any, n_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets of a regression in the rows that have one, and a mask of these rows.

    None, NaN, NA and masked entries mean that there is none; -1 is a number like others. A row of
    several targets has some if all of them are there.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_targets)
    n_rows : int, optional
        Number of images or samples, which ``y`` has to have, too.

    Returns
    -------
    targets : ndarray of shape (n_labeled,) or (n_labeled, n_targets), float64
    is_labeled : ndarray of shape (n,), bool

    Raises
    ------
    ValueError, TypeError
        If there are no targets, not as many as rows, or infinite ones.
    """
    values = _as_array(y)
    _check_number(values, n_rows)
    if not _has_columns(values):
        values = column_or_1d(values, warn=True)
    absent = _where(values, is_absent).reshape(len(values), -1)
    is_labeled = ~np.asarray(absent.any(axis=1))
    targets = values[is_labeled].astype(np.float64)
    _check_some(targets, len(values))
    if np.isinf(targets).any():
        raise ValueError("Input y contains infinity; None or NaN marks images without a target")
    return targets, is_labeled


def _as_array(y: Any) -> np.ndarray:
    """Convert labels to an array, with the types of a mixed list and None for masked entries."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    if issparse(y):
        y = y.toarray()
    if np.ma.isMaskedArray(y):
        values = np.array(y.data, dtype=object)
        values[np.ma.getmaskarray(y)] = None
        return values
    if hasattr(getattr(y, "dtype", None), "na_value"):  # pandas' own, whose integers stay such
        return np.asarray(y, dtype=object)
    values = np.asarray(y)
    if (values.dtype.kind in "US" and isinstance(y, (list, tuple))) or values.dtype.kind == "T":
        return np.array(y, dtype=object)
    return values


def _has_columns(values: np.ndarray) -> bool:
    return values.ndim == 2 and values.shape[1] > 1


def _read_indicators(values: np.ndarray, is_fit: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of 0 and 1 that have no missing value, and a mask of these rows."""
    minus_one = _where(values, _is_minus_one)
    missing = minus_one | _where(values, is_absent)
    is_labeled = ~missing.any(1)
    labels = _of_one_type(values[is_labeled])
    known = _of_one_type(values[~missing])
    if known.dtype.kind not in "biuf" or not np.isin(known, (0, 1)).all():
        strange = next(value for value in known.tolist() if value not in (0, 1))
        raise ValueError(
            f"y has several columns, and {strange!r} in one of them; write 1 where an image is of "
            "the class of a column, 0 where it is not, and -1 or NaN where nobody knows"
        )
    if is_fit and minus_one.any() and len(known) and known.all():
        raise ValueError(
            "y has several columns of 1 and -1, and -1 means that nobody knows; write 0 where an "
            "image is not of the class of a column"
        )
    _check_some(labels, len(values))
    return labels.astype(np.int64), is_labeled


def _check_number(values: np.ndarray, n_rows: int | None) -> None:
    if n_rows is not None and values.ndim and len(values) != n_rows:
        raise ValueError(
            f"X has {n_rows} rows, but y has {len(values)}: give a label for each row of X, and "
            "None, NaN or -1 for those without one"
        )


def _check_some(labels: np.ndarray, n_rows: int) -> None:
    if len(labels) == 0:
        raise ValueError(
            f"y has no label: all {n_rows} values are None, NaN, NA or -1, which mark images "
            "without one"
        )


def _where(values: np.ndarray, is_so: Callable[[Any], bool]) -> np.ndarray:
    """Return a mask of the values for which ``is_so`` is true."""
    kind = values.dtype.kind
    if kind == "O":
        found = [is_so(value) for value in values.ravel()]
        return np.array(found, dtype=bool).reshape(values.shape)
    if kind == "f" and is_so is is_absent:
        return np.isnan(values)
    if kind in "if" and is_so is _is_minus_one:
        return values == -1
    if kind == "U":
        wanted = _NO_TEXT if is_so is is_absent else _MINUS_ONE_AS_TEXT
        return np.isin(values, wanted)
    return np.zeros(values.shape, dtype=bool)


def is_absent(value: Any) -> bool:
    """Return whether a value is None, NaN or NA, or text that stands for one of them."""
    if isinstance(value, str):
        return value in _NO_TEXT
    if value is None or value is getattr(sys.modules.get("pandas"), "NA", None):
        return True
    return isinstance(value, Number) and bool(value != value)


def _is_minus_one(value: Any) -> bool:
    if isinstance(value, str):
        return value in _MINUS_ONE_AS_TEXT
    return isinstance(value, Number) and bool(value == -1)


def _are_ones(labels: np.ndarray) -> bool:
    if labels.dtype.kind in "iuf":
        return bool((labels == 1).all())
    return labels.dtype.kind in "UO" and all(label in _ONE_AS_TEXT for label in labels)


def _of_one_type(labels: np.ndarray) -> np.ndarray:
    """Convert labels in an array of objects to numbers, if that is what they are."""
    if labels.dtype.kind != "O" or len(labels) == 0:
        return labels
    numbers = [isinstance(label, Number) for label in labels.ravel()]
    if all(numbers):
        return np.array(labels.tolist())
    texts = [isinstance(label, str) for label in labels.ravel()]
    if any(numbers) and any(texts):
        one, other = labels.ravel()[numbers][0], labels.ravel()[texts][0]
        raise TypeError(
            f"y has numbers, such as {one!r}, and text, such as {other!r}; give all labels as one "
            "or the other"
        )
    return labels


def _warn_of_wrapped(labels: np.ndarray) -> None:
    """Warn of a class that may be -1 in a type that has no negative numbers."""
    if labels.dtype.kind != "u":
        return
    largest = np.iinfo(labels.dtype).max
    n_largest = int((labels == largest).sum())
    if n_largest and not (labels == largest - 1).any():
        warn(
            f"y is {labels.dtype}, and {n_largest} of {len(labels)} labels are {largest}, which is "
            "taken as a class. It is what -1 becomes in this type: if it marks images without a "
            "label, mark them in y.astype(int)",
            LabelWarning,
        )
