"""Every kind of X to batches of images: the one door through which images come in."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor, nn
from torch.utils.data import Dataset

from sklearn_ssl.exceptions import ImageShapeWarning

__all__ = ["Images", "PixelRange", "images_like", "read_images"]

_STATISTICS_SAMPLE = 10_000  # images that the value range and normalisation are learned from


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

    def __init__(self, *arrays: np.ndarray, shape: tuple[int, int, int]):
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
        """Up to 10,000 images evenly spread over all, to learn statistics from."""
        return self.take(np.arange(0, len(self), -(-len(self) // _STATISTICS_SAMPLE)))


class PixelRange(nn.Module):
    """Pixels as they come in to values in [0, 1], and back.

    uint8 is divided by 255. Other types are scaled by the smallest and largest value of each
    channel of the training images.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor):
        super().__init__()
        self.register_buffer("low", low.float().view(1, -1, 1, 1))
        self.register_buffer("high", high.float().view(1, -1, 1, 1))

    @classmethod
    def of(cls, sample: Tensor) -> "PixelRange":
        """Learn the range of a sample (n, c, h, w)."""
        if sample.dtype == torch.uint8:
            return cls(torch.zeros(sample.shape[1]), torch.full((sample.shape[1],), 255.0))
        low, high = sample.amin((0, 2, 3)), sample.amax((0, 2, 3))
        return cls(low, torch.where(high > low, high, low + 1))  # a constant channel becomes 0

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.low) / (self.high - self.low)

    def inverse(self, images: Tensor) -> Tensor:
        return images * (self.high - self.low) + self.low


def read_images(
    X: Any,
    *,
    estimator: Any,
    image_shape: tuple[int, ...] | None = None,
    fitted_shape: tuple[int, int, int] | None = None,
    min_images: int = 2,
) -> Images:
    """Check X and make it batches of images.

    Parameters
    ----------
    X : array-like
        See the table of accepted inputs in the user guide.
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
    X = _to_array(X)
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions; images are given as (n, pixels), (n, height, width) or "
            "(n, height, width, channels)"
        )
    shape = None
    if ndim in (3, 4):
        shape = (*X.shape[1:], 1) if ndim == 3 else X.shape[1:]
    wanted = fitted_shape or (tuple(image_shape) if image_shape is not None else None)
    if wanted is not None and len(wanted) == 2:  # as many channels as X has
        wanted = (*wanted, shape[2] if shape else max(1, X.shape[1] // math.prod(wanted)))
    if shape is not None:
        _compare_shapes(shape, wanted, fitted_shape is not None)
        if ndim == 4 and shape[0] in (1, 3) and shape[2] > 4 and wanted is None:
            warnings.warn(
                f"images of height {shape[0]} with {shape[2]} channels: NumPy images have their "
                "channels last; if these have them first, give X.transpose(0, 2, 3, 1)",
                ImageShapeWarning,
                stacklevel=4,
            )
        X = X.reshape(len(X), math.prod(shape))
    flat = validate_data(
        estimator,
        X,
        reset=fitted_shape is None,
        dtype="numeric",
        ensure_min_samples=min_images,
    )
    if shape is None:
        shape = wanted or _guess_shape(flat.shape[1])
        if math.prod(shape) != flat.shape[1]:
            raise ValueError(
                f"image_shape={shape} (height, width, channels) is {math.prod(shape)} values an "
                f"image, but X has {flat.shape[1]}"
            )
    return Images(flat, shape=shape)


def images_like(X: Any, images: np.ndarray) -> Any:
    """Put images (n, c, h, w), in the range of the training images, in the form that X has.

    Data frames become 2-D arrays. Integers are rounded and clipped to what their type holds.
    """
    dtype = np.dtype(getattr(X, "dtype", np.float32)) if not isinstance(X, Tensor) else None
    integer = dtype is not None and np.issubdtype(dtype, np.integer)
    if isinstance(X, Tensor):
        tensor = torch.from_numpy(images)
        if not X.is_floating_point():
            limits = torch.iinfo(X.dtype)
            tensor = tensor.round().clamp(limits.min, limits.max)
        return tensor.reshape(X.shape).to(X.dtype)
    images = images.transpose(0, 2, 3, 1)
    if integer:
        images = np.clip(images.round(), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return images.reshape(np.shape(X)).astype(dtype)


def _to_array(X: Any) -> Any:
    """Tensors to arrays with the channels last; lists to arrays; the rest as it is."""
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        if X.dtype == torch.bfloat16:
            X = X.float()
        return (X.permute(0, 2, 3, 1) if X.ndim == 4 else X).numpy()
    if isinstance(X, (list, tuple)):
        try:
            return np.asarray(X)
        except ValueError as error:
            raise ValueError(
                "X is a list of images of different shapes (ragged); resize them to one shape"
            ) from error
    return X


def _compare_shapes(shape: tuple[int, ...], wanted: tuple[int, ...] | None, fitted: bool) -> None:
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


def _guess_shape(n_values: int) -> tuple[int, int, int]:
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
