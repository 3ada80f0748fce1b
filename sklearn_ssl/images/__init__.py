"""Image input: X in any form, its checks, shapes and value ranges, and conversion back to it."""

from sklearn_ssl.images._decoded_cache import prune_decoded
from sklearn_ssl.images._digest import image_digest, path_digest
from sklearn_ssl.images._forms import Form
from sklearn_ssl.images._items import PickedArray, count_images, opened, pick
from sklearn_ssl.images._listing import list_images
from sklearn_ssl.images._load import load_images
from sklearn_ssl.images._pixel_range import Extremes, PixelRange, learn_pixels
from sklearn_ssl.images._read import (
    READING,
    Images,
    complete_shape,
    read_images,
    refuse_images,
    warn_of_files,
)

# What other rooms of this package use besides is imported above, and not public.
__all__ = ["Images", "PixelRange", "list_images", "load_images", "prune_decoded"]


def __dir__() -> list[str]:
    return __all__
