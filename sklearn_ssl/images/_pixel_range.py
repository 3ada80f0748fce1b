"""Value range of pixels: scaling to [0, 1], and checks that later images match the fit."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import PixelRangeWarning
from sklearn_ssl.images._files import Files
from sklearn_ssl.images._read import Images, not_finite
from sklearn_ssl.nn import ChannelScaling

_VALUES_AT_ONCE = 2**18
_FILES_SEEN = 1000
_FLOAT32_SUFFICES = 2**8  # while values are at most this many times larger than their range

# Thresholds as fractions of the fit's range. One dark or bright image is no reason to warn: signs
# of another scaling are a single value far outside, or the values of several images together.
_FAR = 4.0  # any value this far outside
_OUTSIDE = 0.4  # mean extremes of several images this far outside
_ELSEWHERE = 0.25  # extremes of several images this far inside the usual ones
_SQUEEZED = 0.02  # several images together spanning less than this
_SEVERAL = 8


class Extremes:
    """Running minima and maxima of batches of images, on their device.

    Attributes
    ----------
    n : int
        Number of images.
    low, high : Tensor of shape (c,)
        Minimum and maximum over all images.
    lows, highs : Tensor of shape (c,)
        Sums of the minimum and of the maximum of each image.
    """

    low: Tensor
    high: Tensor
    lows: Tensor
    highs: Tensor
    _not_finite: Tensor  # row of the first image with non-finite values, or -1

    def __init__(self) -> None:
        self.n = 0

    def add(self, images: Tensor, rows: np.ndarray | None = None) -> None:
        """Add images (n, c, h, w) at ``rows``, by default the next ones."""
        if rows is None:
            rows = np.arange(self.n, self.n + len(images))
        low, high = images.contiguous().flatten(2).aminmax(dim=2)  # slow over many small dims
        strange = ~(low.isfinite() & high.isfinite()).all(1)
        row = torch.from_numpy(rows).to(images.device)[strange.int().argmax()]
        row = torch.where(strange.any(), row, -1)  # without a device sync
        if self.n == 0:
            self._not_finite = row
            self.low, self.high = low.amin(0), high.amax(0)
            self.lows, self.highs = low.sum(0), high.sum(0)
        else:
            self._not_finite = torch.where(self._not_finite < 0, row, self._not_finite)
            self.low = torch.minimum(self.low, low.amin(0))
            self.high = torch.maximum(self.high, high.amax(0))
            self.lows, self.highs = self.lows + low.sum(0), self.highs + high.sum(0)
        self.n += len(images)

    def check_finite(self, name: str = "X") -> None:
        """Raise ValueError for NaN and for values that are infinite in float32."""
        if (row := int(self._not_finite)) >= 0:
            raise not_finite(row, bool(self.low.isnan().any()), name)


class PixelRange(ChannelScaling):
    """Scaling of pixels to [0, 1], learned in a fit, with range checks for later images.

    Parameters
    ----------
    offset, scale : Tensor of shape (c,)
    origin : array-like of shape (c,)
        Value that :class:`Images` subtracts from each channel before ``offset``; usually 0.
    usual : tuple of float
        Mean minimum and mean maximum of an image, as fractions of the range.
    n_images : int
        Number of images in the fit.
    dtype : dtype
        Dtype of these images.
    """

    base: Tensor

    def __init__(
        self,
        offset: Tensor,
        scale: Tensor,
        origin: Any,
        *,
        usual: tuple[float, float],
        n_images: int,
        dtype: np.dtype,
    ):
        super().__init__(offset, scale)
        self.register_buffer("base", torch.as_tensor(origin, dtype=torch.float32))
        self.usual = usual
        self.n_images = n_images
        self.dtype = dtype

    @property
    def origin(self) -> np.ndarray | None:
        """Value that :class:`Images` subtracts from each channel, or None if it is 0."""
        origin = self.base.cpu().double().numpy()
        return origin if origin.any() else None

    def restore(self, images: np.ndarray) -> np.ndarray:
        """Add the origin to pixels (n, c, h, w), as returned by :meth:`inverse`."""
        if self.origin is None:
            return images
        return images + self.origin[:, None, None]

    def check(self, images: Images, name: str = "X") -> None:
        """Read images, or a sample of files, and warn if their range differs from the fit's.

        uint8 images after a uint8 fit always match: the dtype defines the range.
        """
        if images.dtype == self.dtype == np.uint8:
            return
        seen = Extremes()
        for rows, batch in _chunks(images):
            seen.add(self(batch.to(self.offset.device)), rows)
        self.compare(seen, images.dtype, name)

    def compare(self, seen: Extremes, dtype: np.dtype, name: str = "X") -> None:
        """Warn if images have another range than the fit; ``seen`` holds their scaled extremes."""
        seen.check_finite(name)
        low, high = seen.low.min().item(), seen.high.max().item()
        lows, highs = ((sums / seen.n).mean().item() for sums in (seen.lows, seen.highs))
        several = min(seen.n, self.n_images) >= _SEVERAL
        other = (
            (low < -_FAR or high > 1 + _FAR)
            or (several and (lows < -_OUTSIDE or highs > 1 + _OUTSIDE))
            or (several and low > self.usual[0] + _ELSEWHERE)
            or (several and high < self.usual[1] - _ELSEWHERE)
            or ((several or dtype != self.dtype) and 0 < high - low < _SQUEEZED)
        )
        if other:
            warn(
                f"{name} has {self.describe(seen, dtype)}; scale it to the same range, or the "
                "features are meaningless",
                PixelRangeWarning,
            )

    def describe(self, seen: Extremes, dtype: np.dtype) -> str:
        """Describe the range of images and that of the fit in words."""
        zero = torch.zeros_like(seen.low)
        low, high, first, last = (
            self.restore(self.inverse(shares.view(1, -1, 1, 1)).cpu().numpy())
            for shares in (seen.low, seen.high, zero, zero + 1)
        )
        return (
            f"values from {low.min():.9g} to {high.max():.9g} ({dtype}), but the images of the fit "
            f"range from {first.min():.9g} to {last.max():.9g} ({self.dtype})"
        )


def learn_pixels(images: Images) -> tuple[PixelRange, list[float], list[float]]:
    """Learn the scaling of images to [0, 1], and their mean and standard deviation on that scale.

    Arrays are read in full; of files, which must be decoded, at most 1,000 are read. uint8 values
    are divided by 255. Other types are scaled by the minimum and maximum of each channel. A large
    common offset is subtracted before conversion to float32, and set as the images' ``origin``.

    Returns
    -------
    pixels : PixelRange
    mean, std : list of float
        One value per channel.
    """
    images.origin = _find_origin(images)
    seen = Extremes()
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for rows, batch in _chunks(images):
        batch = batch.float()
        seen.add(batch, rows)
        values = batch.double()
        count += values[:, 0].numel()
        total = total + values.sum((0, 2, 3))
        square = square + values.square_().sum((0, 2, 3))
    seen.check_finite()
    varies = seen.high > seen.low
    if images.is_uint8:
        low, extent = torch.zeros_like(seen.low), torch.full_like(seen.low, 255.0)
    else:
        low, extent = seen.low, torch.where(varies, seen.high - seen.low, 1.0)
    if not extent.isfinite().all():
        raise ValueError("the range of X is larger than float32 can hold; scale X down first")
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt() / extent
    std = torch.where(varies & (std > 0), std, 1.0)
    usual = [((sums / seen.n - low) / extent).mean().item() for sums in (seen.lows, seen.highs)]
    origin = [0.0] * len(low) if images.origin is None else images.origin
    pixels = PixelRange(
        low,
        extent,
        origin,
        usual=(usual[0], usual[1]),
        n_images=len(images),
        dtype=images.dtype,
    )
    return pixels, ((mean - low) / extent).tolist(), std.tolist()


def _chunks(images: Images) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield rows and images in small batches; for files, a random sample."""
    rows = np.arange(len(images))
    if len(rows) > _FILES_SEEN and any(isinstance(array, Files) for array in images.arrays):
        rows = np.sort(np.random.default_rng(0).choice(rows, _FILES_SEEN, replace=False))
    size = max(1, _VALUES_AT_ONCE // math.prod(images.shape))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield some, images.take(some)


def _find_origin(images: Images) -> np.ndarray | None:
    """Find a large offset common to all values of a channel, estimated from the first image.

    It is rounded to float32. The rounding error is small relative to the offset, and the learned
    range absorbs it.
    """
    if images.dtype == np.uint8:
        return None
    first = images.arrays[0][np.arange(1)].reshape(-1, images.shape[2]).astype(np.float64)
    low = first.min(0)
    with np.errstate(invalid="ignore", over="ignore"):
        large = np.abs(low) > _FLOAT32_SUFFICES * (first.max(0) - low)
        origin = np.where(large, low, 0).astype(np.float32).astype(np.float64)
    return origin if origin.any() and np.isfinite(origin).all() else None
