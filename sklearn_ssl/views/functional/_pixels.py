"""Blur, noise and holes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl.views.functional._color import _per_image
from sklearn_ssl.views.functional._geometry import _apply_along_sides

__all__ = ["add_noise", "erase", "gaussian_blur", "mask", "random_patch_mask"]


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur with a standard deviation of ``sigma`` (n,) pixels; the border is mirrored.

    ``kernel_size`` is odd; it is cut down for images too small to mirror half of it.
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
    """Add ``sigma`` (n,) times standard normal ``noise`` (like images), then clip to [0, 1]."""
    return (images + _per_image(sigma) * noise).clamp_(0, 1)


def erase(images: Tensor, boxes: Tensor, value: float = 0.0) -> Tensor:
    """Fill one box (n, 4: top, left, height, width) of each image with ``value``.

    A box of no height or width erases nothing.
    """
    top, left, height, width = boxes[:, :, None].unbind(1)
    row = torch.arange(images.shape[2], device=images.device)
    column = torch.arange(images.shape[3], device=images.device)
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], value)


def mask(images: Tensor, keep: Tensor, value: float | Tensor = 0.0) -> Tensor:
    """Replace what a coarse grid ``keep`` (bool, (n, rows, columns)) drops by ``value``.

    The grid is stretched over the image by nearest neighbor; a grid of the image's own size masks
    single pixels.
    """
    for dim, side in enumerate(images.shape[2:], start=1):
        cell = torch.arange(side, device=images.device) * keep.shape[dim] // side
        keep = keep.index_select(dim, cell)
    return torch.where(keep[:, None], images, value)


def random_patch_mask(
    n: int, grid: tuple[int, int], ratio: float, device: torch.device | str | None = None
) -> Tensor:
    """Bool masks (n, \\*grid) that drop exactly ``round(ratio * cells)`` cells of each grid."""
    cells = grid[0] * grid[1]
    order = torch.rand(n, cells, device=device).argsort(1).argsort(1)
    return (order >= round(ratio * cells)).view(n, *grid)
