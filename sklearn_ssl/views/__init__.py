"""Random views of images: recipes, multi-crop and tiles."""

from sklearn_ssl.views import functional
from sklearn_ssl.views._tiles import random_tiles
from sklearn_ssl.views._views import (
    BYOL_VIEWS,
    CenteredImages,
    MultiCrop,
    Views,
    as_views,
    view_size,
)

__all__ = [
    "BYOL_VIEWS",
    "CenteredImages",
    "MultiCrop",
    "Views",
    "as_views",
    "functional",
    "random_tiles",
    "view_size",
]
