"""Blur, noise and holes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl.views.functional._color import _per_image
from sklearn_ssl.views.functional._geometry import _apply_along_sides

__all__ = ["add_noise", "erase", "gaussian_blur"]


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur with a Gaussian; the border is mirrored.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    sigma : Tensor of shape (n,)
        Standard deviation in pixels; 0 changes nothing.
    kernel_size : int
        Pixels that the filter spans, odd. It is cut down for images too small to mirror half of it.

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the kernel size is even.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    sides = []
    for side in images.shape[2:]:
        radius = min(kernel_size // 2, side - 1)
        offset = torch.arange(-radius, radius + 1, device=images.device)
        reach = sigma.clamp(min=1e-3)[:, None]
        kernel = (-0.5 * (offset / reach) ** 2).exp()
        kernel = kernel / kernel.sum(1, keepdim=True)
        source = (torch.arange(side, device=images.device)[:, None] + offset).abs()
        source = torch.where(source >= side, 2 * (side - 1) - source, source)
        spread = F.one_hot(source, side).to(kernel.dtype)  # (side, taps, side)
        sides.append(torch.einsum("nk,hki->nhi", kernel, spread).to(images.dtype))
    return _apply_along_sides(images, *sides)


def add_noise(images: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Add noise, then clip to [0, 1].

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    sigma : Tensor of shape (n,)
        Standard deviations.
    noise : Tensor, like images
        Standard normal noise.

    Returns
    -------
    Tensor, like images
    """
    return (images + _per_image(sigma) * noise).clamp_(0, 1)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Fill one box of each image.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    boxes : Tensor of shape (n, 4)
        Top, left, height and width in pixels. One of no height or width erases nothing.
    value : float, default=0.0
        What it is filled with.

    Returns
    -------
    Tensor, like images
    """
    top, left, height, width = boxes[:, :, None].unbind(1)
    row = torch.arange(images.shape[2], device=images.device)
    column = torch.arange(images.shape[3], device=images.device)
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], value)
