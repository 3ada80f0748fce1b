"""Images that were cut to one size, and know what lies beyond their borders."""

from typing import Any

import torch
from torch import Tensor

from sklearn_ssl._utils._device import constants, full_precision
from sklearn_ssl.views.functional import crop_resize

__all__ = ["CenteredImages"]


class CenteredImages(Tensor):
    """The middle of images of different sizes; views crop from the whole ones.

    It is a tensor like others. Whatever is done with it gives plain ones.

    Attributes
    ----------
    whole : Tensor of shape (n, c, height, width)
        The whole images, each in the upper left corner.
    sizes : Tensor of shape (n, 2)
        Their heights and widths.
    """

    __torch_function__: Any = torch._C._disabled_torch_function_impl  # as of nn.Parameter

    whole: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, whole: Tensor, sizes: Tensor, size: tuple[int, int]) -> "CenteredImages":
        """Cut images to the aspect of ``size``, and resize them to it."""
        sizes = sizes.to(whole.dtype)
        wanted = constants(size, whole)
        lengths = wanted * (sizes / wanted).amin(1, keepdim=True)
        with full_precision(whole.device):
            middle = crop_resize(whole, torch.cat([(sizes - lengths) / 2, lengths], dim=1), size)
        images = middle.as_subclass(cls)
        images.whole, images.sizes = whole, sizes
        return images
