"""The one door for X: checks, shapes and value ranges, and images back in the form of X."""

from sklearn_ssl.images._forms import images_like, paste
from sklearn_ssl.images._images import Images
from sklearn_ssl.images._pixel_range import pixel_range
from sklearn_ssl.images._read import read_images
from sklearn_ssl.images._shapes import complete_shape

__all__ = ["Images", "complete_shape", "images_like", "paste", "pixel_range", "read_images"]
