"""Images of one shape, given out in batches."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Images"]


Shape = tuple[int, int, int]  # height, width, channels


# value range and normalization are learned from at most so many images, and values
_STATISTICS_IMAGES, _STATISTICS_VALUES = 10_000, 2**27


class Images(Dataset):
    """Images of one shape, in memory or memory-mapped, given out in batches.

    Parameters
    ----------
    *arrays : ndarray of shape (n, h * w * c)
        Of one dtype; all their images count as one sequence. Read-only and memory-mapped arrays
        are read a batch at a time.
    shape : tuple of int
        h, w, c.
    """

    def __init__(self, *arrays: np.ndarray, shape: Shape):
        self.arrays = arrays
        self.shape = shape
        self.starts = np.cumsum([0, *(len(array) for array in arrays)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as they came in."""
        return self.arrays[0].dtype

    @property
    def is_uint8(self) -> bool:
        return self.dtype == np.uint8

    @property
    def nbytes(self) -> int:
        """Size of all images as they are given out."""
        return len(self) * math.prod(self.shape) * (1 if self.is_uint8 else 4)

    def take(self, rows: np.ndarray) -> Tensor:
        """A fresh tensor (n, c, h, w), uint8 or float32, channels last in memory."""
        batch = np.empty(
            (len(rows), math.prod(self.shape)), dtype=np.uint8 if self.is_uint8 else np.float32
        )
        for array, start in zip(self.arrays, self.starts, strict=False):
            here = (rows >= start) & (rows < start + len(array))
            batch[here] = array[rows[here] - start]
        return torch.from_numpy(batch).view(-1, *self.shape).permute(0, 3, 1, 2)

    def sample(self) -> Tensor:
        """Up to 10,000 images (fewer large ones), evenly spread, to learn statistics from."""
        most = min(_STATISTICS_IMAGES, max(1, _STATISTICS_VALUES // math.prod(self.shape)))
        return self.take(np.arange(0, len(self), -(-len(self) // most)))
