"""Reading of X in all its forms: checks, shapes and value ranges, and images in the form of X."""

from sklearn_ssl.images._cache import prune_decoded
from sklearn_ssl.images._digest import image_digest, path_digest
from sklearn_ssl.images._files import Files, Reading, read_ahead
from sklearn_ssl.images._forms import Form
from sklearn_ssl.images._images import Images, warn_of_files
from sklearn_ssl.images._items import count_images
from sklearn_ssl.images._listing import list_images
from sklearn_ssl.images._load import load_images
from sklearn_ssl.images._pixel_range import Extremes, PixelRange, learn_pixels
from sklearn_ssl.images._read import read_images
from sklearn_ssl.images._rows import PickedArray, opened, pick
from sklearn_ssl.images._shapes import complete_shape

__all__ = [
    "Extremes",
    "Files",
    "Form",
    "Images",
    "PickedArray",
    "PixelRange",
    "Reading",
    "complete_shape",
    "count_images",
    "image_digest",
    "learn_pixels",
    "list_images",
    "load_images",
    "opened",
    "path_digest",
    "pick",
    "prune_decoded",
    "read_ahead",
    "read_images",
    "warn_of_files",
]
