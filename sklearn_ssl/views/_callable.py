"""Functions of a batch of images as views."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl._utils._device import full_precision
from sklearn_ssl.views._views import Views

__all__ = ["CallableViews", "as_views"]


class CallableViews:
    """A function of a batch of images as views.

    Parameters
    ----------
    function : callable
        Takes a float tensor (n, c, h, w) in [0, 1] and gives one of n views, all of one size; with
        an argument of the name ``view`` it is told which of an image's views is asked for.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        try:
            self.takes_view = "view" in inspect.signature(function).parameters
        except (TypeError, ValueError):  # of C
            self.takes_view = False

    def __call__(self, images: Tensor, view: int = 0) -> Tensor:
        """Draw one view of each image."""
        which = {"view": view} if self.takes_view else {}
        with full_precision(images.device):
            views = self.function(images, **which)
        usable = isinstance(views, Tensor) and views.is_floating_point() and views.ndim == 4
        if not usable or views.shape[:2] != images.shape[:2]:
            found = f"a {type(views).__name__}"
            if isinstance(views, Tensor):
                found = f"a tensor of shape {tuple(views.shape)} and type {views.dtype}"
            raise ValueError(
                f"views={self.function!r} made {found} of a batch of shape {tuple(images.shape)}; "
                "it must give a tensor of floats in [0, 1] with as many images and channels"
            )
        return views.to(images.dtype)

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return 1: the function sees what images are cut to."""
        return 1.0

    def size_for(self, image_shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the views of images of this height, width and channels."""
        height, width, channels = image_shape
        rows, columns = self(torch.zeros(2, channels, height, width)).shape[2:]
        return rows, columns


def as_views(views: Any, size: Any = None) -> "Views | CallableViews":
    """Return what tasks call: a copy of ``Views`` with Python's numbers, or a function.

    ``size`` is for recipes that have none.
    """
    if not isinstance(views, Views):
        return CallableViews(views)
    params = {name: plain(value) for name, value in views.get_params().items()}
    if params["size"] is None:
        params["size"] = size
    return Views(**params)
