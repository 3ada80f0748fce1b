"""Reading of labels in any form, some of which may be missing.

One rule holds for all functions that take labels: None, NaN, pandas' NA, masked entries and -1 mean
that there is no label, in any container. In text, so do "", "-1", "-1.0", "nan" and "<NA>", because
NumPy and pandas turn missing labels into these. If 1 is the only other label, -1 and 1 are two
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
    """Return the labels of the labeled rows, and a mask of these rows.

    Parameters
    ----------
    y : array-like of shape (n,)
    n_rows : int, optional
        Number of images or samples, which must be the length of ``y``.
    classes : ndarray, optional
        Classes that an estimator was fitted to: -1 is a label if it is one of them. Without
        classes, -1 is a label only if 1 is the only other label, and a warning says so.
    multilabel : bool, default=False
        Whether ``y`` may have a column per class, with 1 where an image belongs to the class and 0
        elsewhere. A row counts as labeled if none of its values is missing.

    Returns
    -------
    labels : ndarray of shape (n_labeled,), or (n_labeled, n_classes) of integers
        Numbers or text, in the order of the rows.
    is_labeled : ndarray of shape (n,), bool

    Raises
    ------
    ValueError, TypeError
        If ``y`` has no labels, another length than ``n_rows``, labels of mixed types, or values
        that cannot be classes.
    """
    values = _as_array(y)
    _check_number(values, n_rows)
    if multilabel and values.ndim == 2 and values.shape[1] > 1:
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
                "y contains only -1 and 1, which are treated as two classes; if -1 marks images "
                "without a label, there is only one class, and nothing to learn",
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
    """Return the regression targets of the rows that have one, and a mask of these rows.

    None, NaN, NA and masked entries mean that there is no target; -1 is an ordinary number. With
    several targets, a row counts as labeled if none of them is missing.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_targets)
    n_rows : int, optional
        Number of images or samples, which must be the length of ``y``.

    Returns
    -------
    targets : ndarray of shape (n_labeled,) or (n_labeled, n_targets), float64
    is_labeled : ndarray of shape (n,), bool

    Raises
    ------
    ValueError, TypeError
        If ``y`` has no targets, another length than ``n_rows``, or infinite targets.
    """
    values = _as_array(y)
    _check_number(values, n_rows)
    if values.ndim != 2 or values.shape[1] == 1:
        values = column_or_1d(values, warn=True)
    absent = _where(values, is_absent).reshape(len(values), -1)
    is_labeled = ~np.asarray(absent.any(axis=1))
    targets = values[is_labeled].astype(np.float64)
    _check_some(targets, len(values))
    if np.isinf(targets).any():
        raise ValueError("Input y contains infinity; None or NaN marks images without a target")
    return targets, is_labeled


def _as_array(y: Any) -> np.ndarray:
    """Convert labels to an array that keeps mixed types and has None for masked entries."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    if issparse(y):
        y = y.toarray()
    if np.ma.isMaskedArray(y):
        values = np.array(y.data, dtype=object)
        values[np.ma.getmaskarray(y)] = None
        return values
    if hasattr(getattr(y, "dtype", None), "na_value"):  # pandas' nullable dtypes
        return np.asarray(y, dtype=object)
    values = np.asarray(y)
    if (values.dtype.kind in "US" and isinstance(y, (list, tuple))) or values.dtype.kind == "T":
        return np.array(y, dtype=object)
    return values


def _read_indicators(values: np.ndarray, is_fit: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of 0 and 1 without missing values, and a mask of these rows."""
    minus_one = _where(values, _is_minus_one)
    missing = minus_one | _where(values, is_absent)
    is_labeled = ~missing.any(1)
    labels = _of_one_type(values[is_labeled])
    known = _of_one_type(values[~missing])
    if known.dtype.kind not in "biuf" or not np.isin(known, (0, 1)).all():
        strange = next(value for value in known.tolist() if value not in (0, 1))
        raise ValueError(
            f"y has several columns, and one of them contains {strange!r}; use 1 where an image "
            "belongs to the column's class, 0 where it does not, and -1 or NaN where this is "
            "unknown"
        )
    if is_fit and minus_one.any() and len(known) and known.all():
        raise ValueError(
            "y has several columns of 1 and -1, but -1 means unknown; use 0 where an image does "
            "not belong to the column's class"
        )
    _check_some(labels, len(values))
    return labels.astype(np.int64), is_labeled


def _check_number(values: np.ndarray, n_rows: int | None) -> None:
    if n_rows is not None and values.ndim and len(values) != n_rows:
        raise ValueError(
            f"X has {n_rows} rows, but y has {len(values)}; give one label per row of X, and None, "
            "NaN or -1 for rows without one"
        )


def _check_some(labels: np.ndarray, n_rows: int) -> None:
    if len(labels) == 0:
        raise ValueError(
            f"y has no label: all {n_rows} values are None, NaN, NA or -1, which mark missing "
            "labels"
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
    """Return whether a value is None, NaN or NA, or text that represents one of them."""
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
    """Convert an object array of labels to numbers, if all of them are numbers."""
    if labels.dtype.kind != "O" or len(labels) == 0:
        return labels
    numbers = [isinstance(label, Number) for label in labels.ravel()]
    if all(numbers):
        return np.array(labels.tolist())
    texts = [isinstance(label, str) for label in labels.ravel()]
    if any(numbers) and any(texts):
        one, other = labels.ravel()[numbers][0], labels.ravel()[texts][0]
        raise TypeError(
            f"y mixes numbers, such as {one!r}, and text, such as {other!r}; convert all labels to "
            "one type"
        )
    return labels


def _warn_of_wrapped(labels: np.ndarray) -> None:
    """Warn of a class that may be -1, wrapped around in an unsigned dtype."""
    if labels.dtype.kind != "u":
        return
    largest = np.iinfo(labels.dtype).max
    n_largest = int((labels == largest).sum())
    if n_largest and not (labels == largest - 1).any():
        warn(
            f"y is {labels.dtype}, and {n_largest} of {len(labels)} labels are {largest}, which "
            f"counts as a class. -1 becomes {largest} in this dtype: if it marks images without a "
            "label, set it in y.astype(int)",
            LabelWarning,
        )
