"""The one door for X: checks, shapes and value ranges, and images back in the form of X."""

from sklearn_ssl.images._forms import Form
from sklearn_ssl.images._images import Images
from sklearn_ssl.images._pixel_range import Extremes, PixelRange, learn_pixels
from sklearn_ssl.images._read import read_images
from sklearn_ssl.images._shapes import complete_shape

__all__ = [
    "Extremes",
    "Form",
    "Images",
    "PixelRange",
    "complete_shape",
    "learn_pixels",
    "read_images",
]
