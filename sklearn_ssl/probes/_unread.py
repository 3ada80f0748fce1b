"""Handling of images that cannot be read, in features, predictions and scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from sklearn_ssl.exceptions import ImageReadError

__all__ = ["of_read", "read_rows", "score_of_read", "with_unread"]


def read_rows(features: Any, what: str = "images in X") -> np.ndarray:
    """Return whether each image was read (n,): learners give rows of NaN for those that were not.

    Errors call the images ``what``.

    Raises
    ------
    ImageReadError
        If none was.
    """
    values = np.asarray(features)
    if values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] == 0:
        return np.ones(values.shape[:1], bool)
    read = ~np.isnan(values).all(1)
    if len(read) and not read.any():
        raise ImageReadError(f"none of the {len(read)} {what} can be read")
    return read


def of_read(function: Callable[[Any], np.ndarray], features: Any) -> np.ndarray:
    """Apply a function to the features of images that were read; other rows hold NaN or None."""
    read = read_rows(features)
    if read.all():
        return function(features)
    return with_unread(function(_safe_indexing(features, np.flatnonzero(read))), read)


def with_unread(found: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Return rows for all images: NaN where they were not read, or None among classes."""
    of_floats = found.dtype.kind == "f"
    dtype = found.dtype if of_floats else object
    filled = np.full((len(read), *found.shape[1:]), np.nan if of_floats else None, dtype)
    filled[read] = found
    return filled


def score_of_read(
    metric: Callable[..., float], y: Any, predicted: np.ndarray, sample_weight: Any
) -> float:
    """Compute a metric over the images that were read."""
    of_classes = predicted.dtype == object
    if of_classes or predicted.dtype.kind == "f":
        unread = predicted == np.array(None) if of_classes else np.isnan(predicted)
        rows = np.flatnonzero(~unread.reshape(len(predicted), -1).any(1))
        if len(rows) < len(predicted):
            y, predicted = _safe_indexing(y, rows), predicted[rows]
            predicted = np.array(predicted.tolist()) if of_classes else predicted
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
    return float(metric(y, predicted, sample_weight=sample_weight))
