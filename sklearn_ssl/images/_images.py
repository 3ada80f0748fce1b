"""Images of one shape, given out in batches."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import ImageReadWarning, MemoryWarning

__all__ = ["Images", "Shape", "Stored", "channels_last", "unmasked", "warn_of_files"]


Shape = tuple[int, int, int]  # height, width, channels


class Images(Dataset):
    """Images of one shape, given out in batches.

    Parameters
    ----------
    *arrays : ndarray or Stored
        Of shape (n, h, w, c) or (n, h * w * c); all their images count as one sequence. Whatever
        has a length, a ``dtype`` and gives the images of an array of rows will do. None is read
        but for the rows that are asked for.
    shape : tuple of int
        h, w, c.

    Attributes
    ----------
    origin : ndarray of shape (c,), optional
        Taken off the values in double precision, before they become float32.
    """

    def __init__(self, *arrays: Any, shape: Shape):
        self.arrays = arrays
        self.shape = shape
        self.origin: np.ndarray | None = None
        self.starts = np.cumsum([0, *(len(array) for array in arrays)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as they came in."""
        return self.arrays[0].dtype

    @property
    def is_uint8(self) -> bool:
        """Return whether images are given out as uint8."""
        return self.dtype == np.uint8 and self.origin is None

    @property
    def nbytes(self) -> int:
        """Size in bytes of all images, as they are given out."""
        return len(self) * math.prod(self.shape) * (1 if self.is_uint8 else 4)

    @property
    def in_memory(self) -> bool:
        """Return whether rows are there at once, and need not be read ahead."""
        return all(isinstance(array, np.ndarray) for array in self.arrays)

    @property
    def skipped(self) -> dict[int, str]:
        """Rows of files that could not be read so far, and why."""
        return {
            int(start) + row: reason
            for array, start in zip(self.arrays, self.starts, strict=False)
            for row, reason in sorted(getattr(array, "skipped", {}).items())
        }

    def shown_by(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of the images last taken for these: others for skipped files."""
        shown = rows.copy()
        for array, start in zip(self.arrays, self.starts, strict=False):
            for row, other in getattr(array, "stand_ins", {}).items():
                shown[rows == start + row] = start + other
        return shown

    @property
    def changed(self) -> list[str]:
        """Files that had changed when they were read again."""
        return [name for array in self.arrays for name in getattr(array, "changed", ())]

    @property
    def not_kept(self) -> list[str]:
        """Reasons why decoded images could not be kept."""
        return [reason for array in self.arrays for reason in getattr(array, "not_kept", ())]

    @property
    def troubles(self) -> list[tuple[dict[int, str], set[str], set[str]]]:
        """Skipped and changed files, and reasons why none was kept, of each array of files."""
        return [(array.skipped, array.changed, array.not_kept) for array in self._files]

    def know(self, troubles_of_all: list[list[tuple[dict[int, str], set[str], set[str]]]]) -> None:
        """Add the troubles of other processes, which read other files."""
        for troubles in troubles_of_all:
            for array, (skipped, changed, not_kept) in zip(self._files, troubles, strict=True):
                array.skipped |= skipped
                array.changed |= changed
                array.not_kept |= not_kept

    @property
    def _files(self) -> list[Any]:
        return [array for array in self.arrays if hasattr(array, "skipped")]

    @property
    def are_files(self) -> bool:
        """Return whether all come from files, whose ends :meth:`take` cuts off."""
        return all(hasattr(array, "whole") for array in self.arrays)

    def take_whole(self, rows: np.ndarray, zoom: float) -> tuple[Tensor, Tensor]:
        """Read whole images (n, c, h, w), padded at the ends, and their sizes (n, 2)."""
        parts = [
            (here, array.whole(rows[here] - start, zoom))
            for array, start in zip(self.arrays, self.starts, strict=False)
            if len(here := np.flatnonzero((rows >= start) & (rows < start + len(array))))
        ]
        height, width = np.max([images.shape[1:3] for _, (images, _) in parts], axis=0)
        dtype = np.uint8 if self.is_uint8 else np.float32
        batch = np.zeros((len(rows), height, width, self.shape[2]), dtype)
        all_sizes = np.empty((len(rows), 2), np.float32)
        for here, (images, sizes) in parts:
            values = (
                images if self.origin is None else np.subtract(images, self.origin, dtype=float)
            )
            batch[here, : images.shape[1], : images.shape[2]] = values
            all_sizes[here] = sizes
        return torch.from_numpy(batch).permute(0, 3, 1, 2), torch.from_numpy(all_sizes)

    def take(self, rows: np.ndarray) -> Tensor:
        """Read images into a new tensor (n, c, h, w), uint8 or float32, channels last in memory."""
        batch = np.empty((len(rows), *self.shape), np.uint8 if self.is_uint8 else np.float32)
        for array, start in zip(self.arrays, self.starts, strict=False):
            here = (rows >= start) & (rows < start + len(array))
            if not here.any():
                continue
            values = array[rows[here] - start].reshape(-1, *self.shape)
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                if self.origin is None:
                    batch[here] = values
                else:
                    batch[here] = np.subtract(values, self.origin, dtype=np.float64)
        return torch.from_numpy(batch).permute(0, 3, 1, 2)


class Stored:
    """Images in an array that is not in memory (HDF5, Zarr, xarray, Dask), read by slices.

    Parameters
    ----------
    array : array-like
        With ``shape``, ``dtype`` and slices.
    shape : tuple of int
        h, w, c.
    planes : bool
        Whether the channels come before height and width.
    """

    def __init__(self, array: Any, shape: Shape, planes: bool):
        self.array = array
        self.shape = shape
        self.planes = planes
        self.dtype = np.dtype(array.dtype)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        wanted, back = np.unique(rows, return_inverse=True)  # h5py wants them in order, each once
        first, last = int(wanted[0]), int(wanted[-1])
        adjacent = last - first + 1 == len(wanted)
        values = unmasked(self.array[first : last + 1] if adjacent else self.array[wanted])
        return channels_last(np.asarray(values), self.shape, self.planes)[back]


def channels_last(array: np.ndarray, shape: Shape, planes: bool) -> np.ndarray:
    """Return a view (n, h, w, c) of images."""
    height, width, channels = shape
    if planes:
        return array.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return array.reshape(-1, *shape)


def unmasked(values: Any) -> Any:
    """Return the data of an array that is masked nowhere, and other values as they are."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if np.ma.is_masked(values):
        raise ValueError(
            "X is a masked array, and some of its values are masked; put numbers in their place, "
            "X.filled(0)"
        )
    return values.data


def warn_of_files(images: Images, what: str) -> None:
    """Warn once of files that could not be read, changed meanwhile, or could not be cached."""
    for names, happened in (
        (list(images.skipped.values()), f"could not be read, and {what}"),
        (sorted(images.changed), "changed while they were read"),
    ):
        if names:
            some = "; ".join(names[:3]) + ("; ..." if names[3:] else "")
            warn(f"{len(names)} of {len(images)} images {happened}: {some}", ImageReadWarning)
    if images.not_kept:
        warn(
            f"decoded images cannot be kept in decoded_cache= ({images.not_kept[0]}), so they are "
            "decoded each time",
            MemoryWarning,
        )
