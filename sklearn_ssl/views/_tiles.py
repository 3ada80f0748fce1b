"""Tiles cut from a grid over an image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._torch import constants, full_precision
from sklearn_ssl.views import functional


def random_tiles(
    images: Tensor, grid: int, size: tuple[int, int], fill: float = 1.0, span: float = 1.0
) -> Tensor:
    """Cut images into a square grid of tiles, each at a random position in its cell.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    grid : int
        Number of rows and of columns.
    size : tuple of int
        Height and width of the returned tiles, in pixels.
    fill : float, default=1.0
        Side of a tile relative to its cell. Below 1, there are gaps of random width, so lines
        that cross a border do not give the neighbor away.
    span : float, default=1.0
        Minimum side of the whole grid relative to the image. Below 1, the size and position of
        the grid are drawn for each image.

    Returns
    -------
    Tensor of shape (n, grid * grid, c, \\*size)
        Tiles, row by row.
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
    with full_precision(images.device):  # one cell after the other, without copying images
        tiles = [functional.crop_resize(images, boxes[:, i], size) for i in range(grid * grid)]
    return torch.stack(tiles, dim=1)
