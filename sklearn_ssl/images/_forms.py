"""Conversion of images to the form of the input."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl.images._files import Files
from sklearn_ssl.images._read import Images, as_array, has_planes, is_stored, stacked

_VALUES_AT_ONCE = 2**18


class Form:
    """Form of input images: container, dtype, shape and channel order.

    Data frames are treated as 2-D arrays, and arrays that are not in memory as arrays that are.
    Files are treated as arrays (n, h, w, c) of the size to which they are resized.

    Parameters
    ----------
    X : array-like
        As in :func:`read_images`.
    images : Images
        Result of :func:`read_images` for X.
    channel_order : {"auto", "first", "last"}, default="auto"
    """

    def __init__(self, X: Any, images: Images, channel_order: str = "auto"):
        if images.are_files:
            self.X, self.planes = images.arrays[0], False
            self.shape, self.dtype = images.shape, images.dtype
            return
        self.X = stacked(X)
        self.planes = has_planes(self.X, channel_order)
        sliced = isinstance(self.X, Tensor) or is_stored(self.X) or hasattr(self.X, "columns")
        some = np.asarray(as_array(self.X[:1] if sliced else self.X))
        self.shape = some.shape[1:]
        self.dtype = some.dtype if some.dtype.kind in "biuf" else np.dtype(np.float64)

    def convert(self, images: np.ndarray) -> np.ndarray:
        """Convert images (n, c, h, w), in the value range of X, to its axis order and dtype.

        Integers are rounded and clipped to the range of their dtype.
        """
        ordered = images if self.planes else images.transpose(0, 2, 3, 1)
        values = ordered.reshape(-1, *self.shape).astype(np.float64)
        if self.dtype.kind == "b":
            return values >= 0.5
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            most = float(limits.max)
            if most > limits.max:  # 64-bit limits are not exact as floats
                most = float(np.nextafter(most, 0))
            values = values.round().clip(limits.min, most)
        return values.astype(self.dtype)

    def paste(self, drawn: np.ndarray, where: np.ndarray) -> None:
        """Restore X in the result of :meth:`convert`, except where the mask (n, h, w) is true."""
        n, height, width = where.shape
        size = max(1, _VALUES_AT_ONCE // (height * width))
        original = as_array(self.X)
        if not is_stored(original) and not isinstance(original, Files):
            original = np.asarray(original)
        for start in range(0, n, size):
            here = slice(start, start + size)
            mask = where[here, None] if self.planes else where[here, ..., None]
            shape = (
                (len(mask), -1, height, width) if self.planes else (len(mask), height, width, -1)
            )
            rows = np.arange(start, min(start + size, n)) if isinstance(original, Files) else here
            given = np.asarray(original[rows]).reshape(shape)
            pasted = np.where(mask, drawn[here].reshape(shape), given)
            drawn[here] = pasted.reshape(-1, *self.shape)

    def wrap(self, values: np.ndarray) -> Any:
        """Return the result of :meth:`convert`, as a tensor if X is one."""
        if isinstance(self.X, Tensor):
            return torch.from_numpy(values).to(self.X.dtype)
        return values
