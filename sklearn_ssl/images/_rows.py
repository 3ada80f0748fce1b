"""Rows of X, in a form that is read as X is."""

from typing import Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing

from sklearn_ssl.images._arrays import is_stored
from sklearn_ssl.images._items import Picked, as_items

__all__ = ["opened", "pick"]


def opened(X: Any) -> Any:
    """Return X with a length: folders are listed, data sets become sequences of their images.

    It is read as X is, and nothing is decoded yet.

    Parameters
    ----------
    X : array-like, or images in files
        As for :func:`read_images`.
    """
    items = as_items(X)
    return X if items is None else items


def pick(X: Any, rows: np.ndarray) -> Any:
    """Pick rows of X, whatever it is; what is not in memory is read when it is needed.

    Parameters
    ----------
    X : array-like, or images in files
        As for :func:`read_images`.
    rows : ndarray of int
        In increasing order.
    """
    items = as_items(X)
    if items is not None:
        return Picked(items, rows)
    if is_stored(X) or isinstance(X, np.memmap):
        return PickedArray(X, rows)
    return X[torch.from_numpy(rows)] if isinstance(X, torch.Tensor) else _safe_indexing(X, rows)


class PickedArray:
    """Some rows of an array that is not in memory."""

    def __init__(self, array: Any, rows: np.ndarray):
        self.array = array
        self.rows = rows
        self.shape = (len(rows), *array.shape[1:])
        self.dtype = array.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.array[self.rows[rows]]
