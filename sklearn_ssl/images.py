"""Every kind of X to batches of images: the one door through which images come in."""

import math
import warnings
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import Dataset

from sklearn_ssl.exceptions import ImageShapeWarning

__all__ = ["Images", "complete_shape", "images_like", "paste", "read_images"]

Shape = tuple[int, int, int]  # height, width, channels

# value range and normalisation are learned from at most so many images, and values
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


def read_images(
    X: Any,
    *,
    estimator: Any,
    image_shape: tuple[int, ...] | None = None,
    fitted_shape: Shape | None = None,
    min_images: int = 2,
) -> Images:
    """Check X and make it batches of images.

    Parameters
    ----------
    X : array-like
        As for :meth:`~sklearn_ssl.base.PretextLearner.fit`.
    estimator : BaseEstimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set, or compared with if
        ``fitted_shape`` is given.
    image_shape : tuple of int, optional
        (h, w) or (h, w, c); what rows of a 2-D X are.
    fitted_shape : tuple of int, optional
        (h, w, c) of the images that the estimator was fitted to.
    min_images : int, default=2

    Raises
    ------
    ValueError, TypeError
        For sparse, complex, non-finite, non-numeric, empty, ragged and wrongly shaped input.
    """
    X = _stacked(X)
    of_torch = isinstance(X, Tensor)
    X = _to_array(X)
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions; images are given as (n, pixels), (n, height, width) or "
            "(n, height, width, channels)"
        )
    wanted = fitted_shape
    if wanted is None and image_shape is not None:
        wanted = complete_shape(image_shape, X)
    shape: Shape | None = None
    if ndim in (3, 4):
        height, width, *channels = X.shape[1:]
        shape = (height, width, *(channels or [1]))
        _compare_shapes(shape, wanted, fitted_shape is not None)
        if ndim == 4 and wanted is None:
            _warn_of_channel_order(shape, of_torch)
        X = X.reshape(len(X), math.prod(shape))
    flat = validate_data(
        estimator,
        X,
        reset=fitted_shape is None,
        dtype="numeric",
        ensure_min_samples=min_images,
    )
    largest = np.finfo(np.float32).max
    if (
        flat.dtype.kind == "f"
        and flat.dtype.itemsize > 4
        and not (-largest <= flat.min() and flat.max() <= largest)
    ):
        raise ValueError("X has values that are too large for float32; scale it down first")
    if shape is None:
        shape = wanted or _guess_shape(flat.shape[1])
        if math.prod(shape) != flat.shape[1]:
            raise ValueError(
                f"image_shape={shape} (height, width, channels) is {math.prod(shape)} values an "
                f"image, but X has {flat.shape[1]}"
            )
    return Images(flat, shape=shape)


def complete_shape(image_shape: tuple[int, ...], X: Any = None) -> Shape:
    """Height, width and channels that ``image_shape`` stands for.

    Channels that it does not give are as many as X has, or one.
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
    shape: tuple[int, ...] = getattr(X, "shape", ())[1:]
    if len(shape) == 3:
        return (height, width, shape[2])
    return (height, width, max(1, math.prod(shape) // (height * width)))


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


def _to_array(X: Any) -> Any:
    """Tensors to arrays with the channels last; the rest as it is."""
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        if X.dtype == torch.bfloat16:
            X = X.float()
        return (X.permute(0, 2, 3, 1) if X.ndim == 4 else X).numpy()
    return X


def _stacked(X: Any) -> Any:
    """A list of images as one tensor or array."""
    if not isinstance(X, (list, tuple)):
        return X
    of_torch = any(isinstance(image, Tensor) for image in X)
    try:
        return torch.stack(list(X)) if of_torch else np.asarray(X)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            "X is a list of images of different shapes (ragged) or kinds; resize them to one shape"
        ) from error


def _warn_of_channel_order(shape: Shape, of_torch: bool) -> None:
    """Images a few pixels high or wide with many channels are mostly read the wrong way round."""
    channels_if_wrong = shape[1] if of_torch else shape[0]
    if shape[2] <= 4 or channels_if_wrong not in (1, 3):
        return
    order = "first in torch tensors" if of_torch else "last in NumPy arrays"
    change = "X.permute(0, 3, 1, 2)" if of_torch else "X.transpose(0, 2, 3, 1)"
    warnings.warn(
        f"images of {shape[0]} x {shape[1]} pixels with {shape[2]} channels: channels come {order} "
        f"here; if yours do not, give {change}",
        ImageShapeWarning,
        stacklevel=4,
    )


def _compare_shapes(shape: Shape, wanted: Shape | None, fitted: bool) -> None:
    if wanted is None or shape == wanted:
        return
    swapped = (wanted[1], wanted[0], wanted[2])
    first = (wanted[2], wanted[0], wanted[1])
    hint = ""
    if shape == swapped:
        hint = "; height and width look swapped"
    elif shape == first:
        hint = "; channels come last in NumPy arrays: X.transpose(0, 2, 3, 1)"
    source = "the images of fit were" if fitted else "image_shape asks for"
    raise ValueError(
        f"X has images of shape {shape} (height, width, channels), but {source} {wanted}{hint}"
    )


def _guess_shape(n_values: int) -> Shape:
    for channels in (1, 3):
        side = math.isqrt(n_values // channels)
        if side > 1 and side * side * channels == n_values:
            return (side, side, channels)
    warnings.warn(
        f"rows of {n_values} values are no square images; taking them as strips of shape "
        f"(1, {n_values}, 1). Give image_shape=(height, width, channels) if they are images",
        ImageShapeWarning,
        stacklevel=5,
    )
    return (1, n_values, 1)
