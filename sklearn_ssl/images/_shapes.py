"""What shape images have, and warnings where it looks wrong."""

import math
import warnings
from numbers import Integral
from typing import Any

from sklearn_ssl.exceptions import ImageShapeWarning
from sklearn_ssl.images._images import Shape

__all__ = ["complete_shape"]


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
