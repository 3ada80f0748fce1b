"""Shapes of images, and warnings where they look wrong."""

import math
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import ImageShapeWarning
from sklearn_ssl.images._images import Shape

__all__ = [
    "compare_shapes",
    "complete_shape",
    "guess_shape",
    "has_planes",
    "hint_of_one_image",
    "warn_of_channel_order",
    "warn_of_planes",
]

_MOST_CHANNELS = 16  # that a short axis is taken for
_VALUES_COMPARED = 2**18
_SMALLEST_SIDE = 4  # of images whose neighboring pixels are compared


def has_planes(X: Any, channel_order: str, ndim: int = 4) -> bool:
    """Return whether channels come before height and width in images of ``ndim`` dimensions."""
    if channel_order == "auto":
        return isinstance(X, Tensor) and X.ndim == ndim
    return channel_order == "first"


def complete_shape(image_shape: tuple[int, ...], shape: tuple[int, ...] = ()) -> Shape:
    """Return the height, width and channels that ``image_shape`` stands for.

    Channels that it does not give are as many as images of ``shape`` have, (h, w, c) or (values,),
    or one.
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
    """Guess the shape of images in rows: squares, or strips with a warning."""
    for channels in (1, 3):
        side = math.isqrt(n_values // channels)
        if side > 1 and side * side * channels == n_values:
            return (side, side, channels)
    warn(
        f"rows of {n_values} values are no square images; taking them as strips of shape "
        f"(1, {n_values}, 1). Give image_shape=(height, width, channels) if they are images",
        ImageShapeWarning,
    )
    return (1, n_values, 1)


def compare_shapes(
    shape: Shape, wanted: Shape | None, given: tuple[int, ...], fitted: bool
) -> None:
    """Raise ValueError for images of another shape than the wanted one.

    ``given`` is the shape of X.
    """
    if wanted is None or shape == wanted:
        return
    height, width, channels = wanted
    hint = hint_of_one_image(given, wanted) if fitted else ""
    if shape == (width, height, channels):
        hint = "; height and width look swapped"
    elif given[1:] == (channels, height, width):
        hint = (
            "; channels come last in NumPy arrays: X.transpose(0, 2, 3, 1), or set "
            "channel_order='first'"
        )
    elif given[1:] == (height, width, channels):
        hint = (
            "; channels come first in torch tensors: X.permute(0, 3, 1, 2), or set "
            "channel_order='last'"
        )
    source = "the images of fit were" if fitted else "image_shape asks for"
    raise ValueError(
        f"X has images of shape {shape} (height, width, channels), but {source} {wanted}{hint}"
    )


def hint_of_one_image(given: tuple[int, ...], wanted: Shape) -> str:
    """Return a hint if X has the shape of one image, without the axis for several."""
    height, width, channels = wanted
    of_one = {wanted, (channels, height, width), (math.prod(wanted),)}
    if channels == 1:
        of_one.add((height, width))
    return "; it looks like one image, which is given as X[None]" if given in of_one else ""


def warn_of_channel_order(shape: Shape, of_torch: bool, apart: bool = False) -> None:
    """Warn of many channels and a short side, which mostly come from the other order.

    ``apart`` says that each image is an array of its own.
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
        f"images of {height} x {width} pixels with {channels} channels: channels come {now} in "
        f"{kind} here; if yours do not, set channel_order='{other}' or give {change}. "
        f"channel_order='{now}' says that they do",
        ImageShapeWarning,
    )


def warn_of_planes(rows: Any, shape: Shape) -> None:
    """Warn if rows look like one channel after the other, by how neighboring pixels differ.

    Read in the right order, neighbors are more alike than in the wrong one, both side by side and
    one above the other.
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
            "set channel_order='first' to read them as planes, or 'last' if they are none",
            ImageShapeWarning,
        )
