"""Checks of X, and its images as batches of one shape."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import Dataset

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import ImageReadWarning, ImageShapeWarning, MemoryWarning

# arguments of estimators by which images are read
READING = (
    "image_shape", "channel_order", "pages", "resize", "on_error", "decoded_cache", "n_jobs",
)  # fmt: skip

Shape = tuple[int, int, int]  # height, width, channels
Item = TypeVar("Item")
Result = TypeVar("Result")


class Images(Dataset):
    """Images of one shape, read in batches.

    Parameters
    ----------
    *arrays : ndarray or Stored
        Arrays of shape (n, h, w, c) or (n, h * w * c), treated as one sequence of images. Any
        object with a length, a ``dtype`` and indexing by an array of rows will do. Only the
        requested rows are read.
    shape : tuple of int
        h, w, c.

    Attributes
    ----------
    origin : ndarray of shape (c,), optional
        Subtracted from the values in double precision, before conversion to float32.
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
        """Dtype of the input values."""
        return self.arrays[0].dtype

    @property
    def is_uint8(self) -> bool:
        """Return whether images are returned as uint8."""
        return self.dtype == np.uint8 and self.origin is None

    @property
    def nbytes(self) -> int:
        """Size in bytes of all images, as returned by :meth:`take`."""
        return len(self) * math.prod(self.shape) * (1 if self.is_uint8 else 4)

    @property
    def in_memory(self) -> bool:
        """Return whether all rows are in memory and need not be read ahead."""
        return all(isinstance(array, np.ndarray) for array in self.arrays)

    @property
    def skipped(self) -> dict[int, str]:
        """Rows of files that could not be read so far, with the reasons."""
        return {
            int(start) + row: reason
            for array, start in zip(self.arrays, self.starts, strict=False)
            for row, reason in sorted(getattr(array, "skipped", {}).items())
        }

    def shown_by(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows last read for ``rows``, with substitutes for skipped files."""
        shown = rows.copy()
        for array, start in zip(self.arrays, self.starts, strict=False):
            for row, other in getattr(array, "stand_ins", {}).items():
                shown[rows == start + row] = start + other
        return shown

    @property
    def problems(self) -> list[tuple[dict[int, str], set[str], set[str]]]:
        """Skipped files, changed files and reasons for failed caching, for each array of files."""
        return [(array.skipped, array.changed, array.not_cached) for array in self._files]

    def merge_problems(
        self, problems_of_all: list[list[tuple[dict[int, str], set[str], set[str]]]]
    ) -> None:
        """Merge in the problems of other processes, which read other files."""
        for problems in problems_of_all:
            for array, (skipped, changed, not_cached) in zip(self._files, problems, strict=True):
                array.skipped |= skipped
                array.changed |= changed
                array.not_cached |= not_cached

    @property
    def _files(self) -> list[Any]:
        return [array for array in self.arrays if hasattr(array, "skipped")]

    @property
    def are_files(self) -> bool:
        """Return whether all images come from files, which :meth:`take` crops."""
        return all(hasattr(array, "whole") for array in self.arrays)

    def take_whole(self, rows: np.ndarray, zoom: float) -> tuple[Tensor, Tensor]:
        """Read whole images (n, c, h, w), padded at bottom and right, and their sizes (n, 2)."""
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
            with np.errstate(over="ignore"):  # values too large for float32 become infinite
                if self.origin is None:
                    batch[here] = values
                else:
                    batch[here] = np.subtract(values, self.origin, dtype=np.float64)
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    def read_ahead(
        self, read: Callable[[Item], Result], items: Sequence[Item], in_memory_too: bool = False
    ) -> Iterator[Result]:
        """Yield ``read(item)`` for each item; a thread reads the next ones while the last is used.

        Images in memory are not read ahead, unless ``in_memory_too``.
        """
        if (self.in_memory and not in_memory_too) or len(items) < 2:
            yield from map(read, items)
            return
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = [reader.submit(read, item) for item in items[:2]]
            try:
                for item in items[2:]:
                    done = ahead.pop(0).result()
                    ahead.append(reader.submit(read, item))
                    yield done
                for last in ahead:
                    yield last.result()
            finally:
                for waiting in ahead:
                    waiting.cancel()


class Stored:
    """Images in an array that is not in memory (HDF5, Zarr, xarray, Dask), read in slices.

    Parameters
    ----------
    array : array-like
        Array with ``shape``, ``dtype`` and slicing.
    shape : tuple of int
        h, w, c.
    planes : bool
        True if channels come before height and width.
    """

    def __init__(self, array: Any, shape: Shape, planes: bool):
        self.array = array
        self.shape = shape
        self.planes = planes
        self.dtype = np.dtype(array.dtype)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        wanted, back = np.unique(rows, return_inverse=True)  # h5py needs sorted, unique rows
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
    """Return the data of a masked array that masks nothing, and other input unchanged."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if np.ma.is_masked(values):
        raise ValueError(
            "X is a masked array, and some of its values are masked; fill them, for example with "
            "X.filled(0)"
        )
    return values.data


def warn_of_files(images: Images, what: str) -> None:
    """Warn once of files that could not be read, changed between reads or could not be cached."""
    changed = [name for _, some, _ in images.problems for name in some]
    for names, happened in (
        (list(images.skipped.values()), f"could not be read and {what}"),
        (sorted(changed), "changed while they were read"),
    ):
        if names:
            some = "; ".join(names[:3]) + ("; ..." if names[3:] else "")
            warn(f"{len(names)} of {len(images)} images {happened}: {some}", ImageReadWarning)
    if not_cached := [reason for *_, some in images.problems for reason in some]:
        warn(
            f"images cannot be cached in decoded_cache= ({not_cached[0]}), so they are "
            "decoded each time",
            MemoryWarning,
        )


_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def stacked(X: Any) -> Any:
    """Stack a list of images into one tensor or array, and return other input unchanged.

    Raises
    ------
    TypeError, ValueError
        If X does not hold numbers.
    """
    if isinstance(X, Image.Image):
        raise TypeError("X is one PIL image; give a list of images, or [X] for this one")
    if isinstance(X, memoryview):
        return np.asarray(X)
    if isinstance(X, (list, tuple)):
        images = [unmasked(image) for image in X]
        of_torch = any(isinstance(image, Tensor) for image in images)
        try:
            X = torch.stack(images) if of_torch else np.asarray(images)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(
                "X is a list of images of different shapes (ragged) or types; resize them to one "
                "shape"
            ) from error
    if isinstance(X, Tensor):
        _refuse_strange(X)
    else:
        _refuse_dates(X)
    return X


def _refuse_strange(X: Tensor) -> None:
    if X.is_nested:
        raise ValueError(
            "X is a nested tensor of images of different shapes; resize them to one shape and "
            "give torch.stack(images)"
        )
    if X.layout != torch.strided:
        raise TypeError(f"X is a tensor with layout {X.layout}, not a dense one; give X.to_dense()")
    if X.is_meta:
        raise ValueError("X is a tensor on the meta device, which has no values; give real images")
    if X.is_complex():
        raise ValueError(f"Complex data not supported: X is a tensor of {X.dtype}; give X.abs()")


def _refuse_dates(X: Any) -> None:
    names = [
        str(name)
        for name, dtype in zip(getattr(X, "columns", ()), getattr(X, "dtypes", ()), strict=False)
        if getattr(dtype, "kind", None) in ("m", "M") or getattr(dtype, "is_temporal", bool)()
    ]
    if names:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"X has dates or times in columns {some}; drop them: pixels are numbers")


def as_array(X: Any) -> Any:
    """Convert tensors to arrays that share their memory, and masked arrays to plain ones."""
    if not isinstance(X, Tensor):
        return unmasked(X)
    if X.is_quantized:
        X = X.dequantize()
    X = X.detach().cpu().resolve_neg()
    if X.is_floating_point() and X.dtype not in _OF_NUMPY:
        X = X.float()
    return X.numpy()


def is_stored(X: Any) -> bool:
    """Return whether X is an array that can be sliced, but not a NumPy array."""
    if isinstance(X, np.ndarray) or issparse(X) or not hasattr(X, "__getitem__"):
        return False
    if len(getattr(X, "shape", ())) < 2:
        return False
    with contextlib.suppress(TypeError):
        return np.dtype(getattr(X, "dtype", None) or object) != object
    return False


def not_finite(row: int, is_nan: bool, name: str = "X") -> ValueError:
    """Return the error for images with NaN, or with values that are infinite in float32."""
    if is_nan:
        return ValueError(
            f"Input {name} contains NaN, first in row {row}; every pixel needs a value: fill the "
            "gaps, for example with np.nan_to_num, or drop the image"
        )
    return ValueError(
        f"Input {name} contains infinity or values that are too large for float32, first in row "
        f"{row}; drop the image or scale the values down"
    )


def check_finite(rows: np.ndarray) -> None:
    """Raise ValueError if a value in rows of numbers is NaN or infinite."""
    with np.errstate(all="ignore"):
        if rows.dtype.kind != "f" or np.isfinite(rows.sum()):  # a fast check first
            return
    strange = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(strange):
        raise not_finite(int(strange[0]), bool(np.isnan(rows).any()))


def as_numbers(array: np.ndarray, names: Any = None) -> np.ndarray:
    """Convert a 2-D array to numbers.

    Parameters
    ----------
    array : ndarray
    names : sequence of str, optional
        Column names, for messages.

    Raises
    ------
    ValueError, TypeError
        If it has other values, such as dates or nulls.
    """
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind != "O":
        raise ValueError(f"X has dtype {array.dtype}; pixels must be numbers")
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"X has values that are not numbers: {error}") from error
    except OverflowError as error:
        raise ValueError(f"X has values that are too large for a float: {error}") from error
    missing = np.flatnonzero(np.isnan(numbers).any(0))
    if len(missing):
        where = missing[:5].tolist() if names is None else names[missing[:5]].tolist()
        raise ValueError(
            f"Input X contains NaN or null in {len(missing)} columns, first {where}; every pixel "
            "needs a value: fill the gaps or drop the rows"
        )
    return numbers


_MOST_CHANNELS = 16  # longer axes are not suspected to be channels
_VALUES_COMPARED = 2**18
_SMALLEST_SIDE = 4  # minimum side of images for a comparison of neighboring pixels


def has_planes(X: Any, channel_order: str, ndim: int = 4) -> bool:
    """Return whether channels come before height and width in images of ``ndim`` dimensions."""
    if channel_order == "auto":
        return isinstance(X, Tensor) and X.ndim == ndim
    return channel_order == "first"


def complete_shape(image_shape: tuple[int, ...], shape: tuple[int, ...] = ()) -> Shape:
    """Return ``image_shape`` as height, width and channels.

    Missing channels are inferred from ``shape``, (h, w, c) or (values,); the default is one.
    """
    sides = tuple(image_shape)
    if len(sides) not in (2, 3) or not all(isinstance(s, Integral) and s > 0 for s in sides):
        raise ValueError(
            f"image_shape={image_shape} must be (height, width) or (height, width, channels), "
            "all positive integers"
        )
    height, width, *channels = (int(side) for side in sides)
    if channels:
        return (height, width, channels[0])
    if len(shape) == 3:
        return (height, width, shape[2])
    return (height, width, max(1, math.prod(shape) // (height * width)))


def guess_shape(n_values: int) -> Shape:
    """Guess the shape of images given as rows: squares, or strips with a warning."""
    for channels in (1, 3):
        side = math.isqrt(n_values // channels)
        if side > 1 and side * side * channels == n_values:
            return (side, side, channels)
    warn(
        f"rows of {n_values} values are not square images; reading them as strips of shape "
        f"(1, {n_values}, 1). If they are images, give image_shape=(height, width, channels)",
        ImageShapeWarning,
    )
    return (1, n_values, 1)


def compare_shapes(
    shape: Shape, wanted: Shape | None, given: tuple[int, ...], fitted: bool
) -> None:
    """Raise ValueError if images do not have the wanted shape; ``given`` is the shape of X."""
    if wanted is None or shape == wanted:
        return
    height, width, channels = wanted
    hint = hint_of_one_image(given, wanted) if fitted else ""
    if shape == (width, height, channels):
        hint = "; height and width look swapped"
    elif given[1:] == (channels, height, width):
        hint = (
            "; channels come last in NumPy arrays: give X.transpose(0, 2, 3, 1) or set "
            "channel_order='first'"
        )
    elif given[1:] == (height, width, channels):
        hint = (
            "; channels come first in torch tensors: give X.permute(0, 3, 1, 2) or set "
            "channel_order='last'"
        )
    source = "the images of the fit had" if fitted else "image_shape asks for"
    raise ValueError(
        f"X has images of shape {shape} (height, width, channels), but {source} {wanted}{hint}"
    )


def hint_of_one_image(given: tuple[int, ...], wanted: Shape) -> str:
    """Return a hint if X has the shape of one image without a batch axis, or an empty string."""
    height, width, channels = wanted
    of_one = {wanted, (channels, height, width), (math.prod(wanted),)}
    if channels == 1:
        of_one.add((height, width))
    return "; it looks like one image: give X[None]" if given in of_one else ""


def warn_of_channel_order(shape: Shape, of_torch: bool, apart: bool = False) -> None:
    """Warn if many channels and a short side suggest the other channel order.

    ``apart`` is True if each image is a separate array.
    """
    height, width, channels = shape
    short, *others = (width, height, channels) if of_torch else (height, width, channels)
    looks_right = (
        channels <= 4
        or short > _MOST_CHANNELS
        or short >= min(others)
        or max(others) > 2 * min(others)
    )
    if looks_right:
        return
    now, other = ("first", "last") if of_torch else ("last", "first")
    kind = "torch tensors" if of_torch else "NumPy arrays"
    change = "X.permute(0, 3, 1, 2)" if of_torch else "X.transpose(0, 2, 3, 1)"
    if apart:
        change = "image.permute(2, 0, 1)" if of_torch else "image.transpose(1, 2, 0)"
    warn(
        f"images are read as {height} x {width} pixels with {channels} channels, because channels "
        f"come {now} in {kind}. If this is wrong, set channel_order='{other}' or give {change}; "
        f"if it is right, set channel_order='{now}'",
        ImageShapeWarning,
    )


def warn_of_planes(rows: Any, shape: Shape) -> None:
    """Warn if neighboring pixels suggest that rows hold one channel after the other.

    In the right order, neighbors are more alike than in the wrong one, both horizontally and
    vertically.
    """
    height, width, channels = shape
    if channels == 1 or min(height, width) < _SMALLEST_SIDE:
        return
    step = -(-rows.shape[0] // max(1, _VALUES_COMPARED // math.prod(shape)))
    some = np.asarray(rows[::step], dtype=np.float64)
    planes = some.reshape(-1, channels, height, width)
    pixels = some.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    with np.errstate(invalid="ignore", over="ignore"):
        differences = [
            [np.abs(np.diff(images, axis=axis)).mean() for axis in (2, 3)]
            for images in (planes, pixels)
        ]
    if all(of_planes < 0.8 * of_pixels for of_planes, of_pixels in zip(*differences, strict=True)):
        warn(
            f"rows of X look like planes, one channel after the other (all red, all green, all "
            f"blue), but are read pixel by pixel, as images of {shape} (height, width, channels); "
            "set channel_order='first' to read them as planes, or 'last' if they are not",
            ImageShapeWarning,
        )


def read_images(
    X: Any,
    *,
    estimator: Any,
    image_shape: tuple[int, ...] | None = None,
    channel_order: str = "auto",
    fitted_shape: Shape | None = None,
    fitted_dtype: np.dtype | None = None,
    min_images: int = 2,
    reading: dict[str, Any] | None = None,
    name: str = "X",
) -> Images:
    """Check X and return its images, to be read in batches.

    Arrays in memory are checked here. Other arrays, and those that would have to be copied, are
    checked batch by batch when they are read; files are decoded then.

    Parameters
    ----------
    X : array-like
        As in :meth:`~sklearn_ssl.base.PretextLearner.fit`.
    estimator : BaseEstimator
        Estimator whose ``n_features_in_`` and ``feature_names_in_`` are set, or checked if
        ``fitted_shape`` is given.
    image_shape : tuple of int, optional
        (h, w) or (h, w, c) of the rows of a 2-D X; files are resized to it.
    channel_order : {"auto", "first", "last"}, default="auto"
    fitted_shape : tuple of int, optional
        (h, w, c) of the images that the estimator was fitted to.
    fitted_dtype : dtype, optional
        Dtype of these images.
    min_images : int, default=2
    reading : dict, optional
        Options for reading files.
    name : str, default="X"
        Name of X in messages about one of its rows.

    Raises
    ------
    ValueError, TypeError
        If the input is sparse, complex, non-finite, non-numeric, empty, ragged or has a wrong
        shape.
    ImageReadError
        If files cannot be read.
    """
    holds_numbers = isinstance(X, np.ndarray) and X.dtype.kind in "biuf"
    if not (holds_numbers or isinstance(X, Tensor)):
        from sklearn_ssl.images._files import read_files  # imports this file

        files = read_files(X, image_shape, channel_order, fitted_shape, fitted_dtype, reading, name)
        if files is not None:
            like = np.broadcast_to(np.uint8(0), (len(files), math.prod(files.shape)))
            reset = fitted_shape is None
            validate_data(estimator, like, reset=reset, ensure_min_samples=min_images)
            return Images(files, shape=files.shape)
    X = stacked(X)
    of_torch = isinstance(X, Tensor)
    planes = has_planes(X, channel_order)
    X = as_array(X)
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions; images must be (n, pixels), (n, height, width) or "
            "(n, height, width, channels)"
        )
    shape: Shape | None = None
    wanted = fitted_shape
    if ndim in (3, 4):
        first, second, third = X.shape[1:] if ndim == 4 else (*X.shape[1:], 1)
        shape = (second, third, first) if planes and ndim == 4 else (first, second, third)
        if wanted is None and image_shape is not None:
            wanted = complete_shape(image_shape, shape)
        compare_shapes(shape, wanted, tuple(X.shape), fitted_shape is not None)
        if ndim == 4 and wanted is None and channel_order == "auto":
            warn_of_channel_order(shape, of_torch)
    elif fitted_shape is not None:
        _check_width(X, fitted_shape, estimator)
    if ndim == 1 and len(X):
        raise ValueError(
            f"Expected 2D array, got 1D array instead: X has shape {tuple(X.shape)}, like labels "
            "or one image. Reshape your data to (n, pixels), (n, height, width) or (n, height, "
            "width, channels)"
        )
    reset = fitted_shape is None
    X = _check_values(X, estimator, reset=reset, ensure_min_samples=min_images)
    if shape is None:
        n_values = math.prod(X.shape[1:])
        shape = wanted or (
            guess_shape(n_values)
            if image_shape is None
            else complete_shape(image_shape, (n_values,))
        )
        if math.prod(shape) != n_values:
            raise ValueError(
                f"image_shape={shape} (height, width, channels) is {math.prod(shape)} values per "
                f"image, but X has {n_values}"
            )
        if channel_order == "auto":
            warn_of_planes(X, shape)
    array = Stored(X, shape, planes) if is_stored(X) else channels_last(X, shape, planes)
    return Images(array, shape=shape)


def _check_values(X: Any, estimator: Any, **options: Any) -> Any:
    """Check X as scikit-learn does, and return it as rows of numbers.

    If this would need a copy, X is returned unchanged.
    """
    in_memory = isinstance(X, np.ndarray)
    if in_memory and X.ndim > 2 and (X.flags.c_contiguous or X.dtype.kind not in "biuf"):
        X = X.reshape(len(X), math.prod(X.shape[1:]))
    if is_stored(X) or (in_memory and X.ndim > 2):  # the values are checked when they are read
        like = np.broadcast_to(np.zeros((), X.dtype), (X.shape[0], math.prod(X.shape[1:])))
        as_numbers(validate_data(estimator, like, ensure_all_finite=False, **options))
        return X
    try:
        if in_memory and X.ndim == 2 and X.dtype.kind == "O":
            X = as_numbers(X)
        # scikit-learn's own check would recommend estimators that accept NaN
        rows = validate_data(estimator, X, dtype="numeric", ensure_all_finite=False, **options)
        rows = as_numbers(rows, getattr(estimator, "feature_names_in_", None))
    except (TypeError, ValueError):
        _refuse_text_beside_others(X)
        raise
    check_finite(rows)
    return rows


def _refuse_text_beside_others(X: Any) -> None:
    """Raise ValueError if one column of a table holds text, such as paths, and say what to give."""
    is_table = isinstance(X, np.ndarray) or hasattr(X, "columns")
    first = np.asarray(X[:1], dtype=object) if is_table and np.ndim(X) else np.empty(0)
    if first.ndim != 2 or len(first) == 0 or first.shape[1] == 1:
        return
    names = getattr(X, "column_names", getattr(X, "columns", None))  # Arrow tables, data frames
    kinds = {i: type(value).__name__ for i, value in enumerate(first[0]) if _is_text(value)}
    if not kinds or (names is None and len(kinds) == first.shape[1]):
        return
    column, kind = next(iter(kinds.items()))
    which, give = f"column {column}", f"X[:, {column}]"
    if names is not None:
        which = f"column {names[column]!r}"
        give = f"X[{names[column]!r}], or use a ColumnTransformer that passes this column on"
    raise ValueError(
        f"X has {first.shape[1]} columns, and {which} holds {kind}, not numbers. If these are the "
        f"images, give {give}"
    )


def _is_text(value: Any) -> bool:
    """Return whether a value is text, a path or bytes, but not a number written as text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            float(value)
            return False
    return isinstance(value, (str, bytes, os.PathLike))


def _check_width(X: Any, fitted_shape: Shape, estimator: Any) -> None:
    """Raise ValueError for rows of another width than in the fit, with advice on images."""
    shape: tuple[int, ...] = tuple(getattr(X, "shape", ()))
    n_values = math.prod(fitted_shape)
    hint = hint_of_one_image(shape, fitted_shape)
    if len(shape) == 1 and hint:
        raise ValueError(f"Expected 2D array, got 1D array instead. Reshape your data{hint}")
    if len(shape) != 2 or hasattr(X, "columns") or shape[1] in (0, n_values):
        return
    _refuse_text_beside_others(X)
    raise ValueError(
        f"X has {shape[1]} features, but {type(estimator).__name__} is expecting {n_values} "
        f"features as input: images of {fitted_shape} (height, width, channels) in rows"
        f"{hint or '; resize the images to this shape, or fit again with image_shape'}"
    )


def refuse_images(y: Any, X: Any) -> None:
    """Raise ValueError if images were given as ``y``, usually instead of ``X_unlabeled``."""
    shape = _shape(y)
    if len(shape) > 2 or (len(shape) == 2 and shape[1] == np.prod(_shape(X)[1:]) >= 16):
        raise ValueError(
            f"y has shape {shape}, which looks like images and would be ignored; to pretrain on "
            "more images, use fit(X, X_unlabeled=...)"
        )


def _shape(given: Any) -> tuple[int, ...]:
    """Return the shape of an array or frame, or of a list, judged by its first elements."""
    if isinstance(given, (list, tuple)) and len(given):
        return (len(given), *_shape(given[0]))
    return tuple(getattr(given, "shape", ()))
