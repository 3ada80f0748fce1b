"""Tiles of a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._device import constants, full_precision
from sklearn_ssl.views import functional

__all__ = ["random_tiles"]


def random_tiles(
    images: Tensor, grid: int, size: tuple[int, int], fill: float = 1.0, span: float = 1.0
) -> Tensor:
    """Cut images into a square grid of tiles, each somewhere in its cell.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    grid : int
        Number of rows and of columns.
    size : tuple of int
        Height and width of the tiles that come out, in pixels.
    fill : float, default=1.0
        Side of a tile, relative to that of its cell. Below 1 there are gaps of random width, so
        that lines which cross the border do not give the neighbor away.
    span : float, default=1.0
        Side of the whole grid, relative to the image's, at least. Below 1 it is drawn for each
        image, and the grid lies anywhere in it.

    Returns
    -------
    Tensor of shape (n, grid * grid, c, \\*size)
        Row by row.
    """
    n, _, height, width = images.shape
    cell_h, cell_w = height / grid, width / grid
    free = torch.rand(2, n, grid * grid, device=images.device) * (1 - fill)
    index = torch.arange(grid * grid, device=images.device)
    top = (index // grid + free[0]) * cell_h
    left = (index % grid + free[1]) * cell_w
    height_width = constants((cell_h * fill, cell_w * fill), images).expand(*top.shape, 2)
    boxes = torch.cat([torch.stack([top, left], dim=2), height_width], dim=2)
    if span < 1:
        whole = span + (1 - span) * torch.rand(n, 1, 1, device=images.device)
        corner = (1 - whole) * torch.rand(n, 1, 2, device=images.device)
        corner = corner * constants((height, width), images)
        boxes = whole * boxes + F.pad(corner, (0, 2))
    with full_precision(images.device):  # one place after the other: images need no copies
        tiles = [functional.crop_resize(images, boxes[:, i], size) for i in range(grid * grid)]
    return torch.stack(tiles, dim=1)
