"""Images back in the form in which others came."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl.images._read import _stacked, _to_array

__all__ = ["images_like", "paste"]


def images_like(X: Any, images: np.ndarray) -> Any:
    """Put images (n, c, h, w), in the range of the training images, in the form that X has.

    Data frames become 2-D arrays. Integers are rounded and clipped to what their type holds.
    """
    X = _stacked(X)
    given = _to_array(X)
    values = images.transpose(0, 2, 3, 1).reshape(np.shape(given)).astype(np.float64)
    dtype = np.dtype(getattr(given, "dtype", np.float32))
    if dtype.kind == "b":
        values = np.heaviside(values - 0.5, 0)
    elif dtype.kind in "iu":
        values = values.round().clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = values.astype(dtype)
    if not isinstance(X, Tensor):
        return values
    tensor = torch.from_numpy(values).to(X.dtype)
    return tensor.permute(0, 3, 1, 2) if X.ndim == 4 else tensor


def paste(X: Any, drawn: Any, where: np.ndarray) -> Any:
    """Images ``drawn`` in the form of X where the mask (n, h, w) is true, and X elsewhere."""
    X = _stacked(X)
    n, height, width = where.shape
    channels = math.prod(drawn.shape) // where.size
    everywhere = np.broadcast_to(where[:, None], (n, channels, height, width))
    chosen = images_like(X, everywhere.astype(np.float32)) != 0
    if isinstance(X, Tensor):
        return torch.where(chosen, drawn, X.cpu())
    return np.where(chosen, drawn, np.asarray(X))
