"""Batched image operations with one parameter per image.

Every function takes ``images``, a float tensor of shape (n, c, h, w) with values in [0, 1], and
parameters of shape (n, ...); it draws nothing, so the same parameters give the same result. The
random recipes that draw them are in :mod:`sklearn_ssl.views`.

Geometry is two matrix products per image (resizing along a side is a linear map), color is one
3x3 matrix per image except for the hue; this is what makes a batch as cheap as it is. Saturation,
hue and grayscale are defined for RGB alone and refuse other channel counts.
"""

from sklearn_ssl.views.functional._color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_matrix,
    gray,
    solarize,
)
from sklearn_ssl.views.functional._geometry import crop_resize, flip, random_boxes, rotate90
from sklearn_ssl.views.functional._pixels import add_noise, erase, gaussian_blur

__all__ = [
    "add_noise",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "color_matrix",
    "crop_resize",
    "erase",
    "flip",
    "gaussian_blur",
    "gray",
    "random_boxes",
    "rotate90",
    "solarize",
]
