"""Random views of images: the recipe, crops of several sizes, tiles."""

from sklearn_ssl.views import functional
from sklearn_ssl.views._callable import CallableViews, as_views
from sklearn_ssl.views._centered import CenteredImages
from sklearn_ssl.views._multi_crop import MultiCrop
from sklearn_ssl.views._tiles import random_tiles
from sklearn_ssl.views._views import BYOL_VIEWS, Views, view_size

__all__ = [
    "BYOL_VIEWS",
    "CallableViews",
    "CenteredImages",
    "MultiCrop",
    "Views",
    "as_views",
    "functional",
    "random_tiles",
    "view_size",
]
