"""Several crops of each image: large and small ones, and the tiles of a grid."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.base import clone
from torch import Tensor

from sklearn_ssl import augment
from sklearn_ssl.devices import full_precision
from sklearn_ssl.views import Views

__all__ = ["MultiCrop", "random_tiles"]


@dataclass(frozen=True)
class MultiCrop:
    """Two views of each image, and some smaller ones of small parts of it.

    Parameters
    ----------
    views : Views
        Recipe of the two. The smaller ones follow it but for size and scale, and are not solarized.
    n_local : int
        Number of the smaller ones.
    local_scale : tuple of float
        Range of the share of the image's area that they crop.
    image_size : tuple of int
        Height and width.

    References
    ----------
    Caron et al. (2020), Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments, section 3.2.
    """

    views: Views
    n_local: int
    local_scale: tuple[float, float]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        low_high = self.local_scale
        if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] <= 1:
            raise ValueError(
                f"local_scale={low_high!r} must be two shares of the area, 0 < low <= high <= 1"
            )

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Batches of one size each: large crops (2n, c, h, w) and small ones (n_local * n, ...)."""
        crops = [torch.cat([self.views(images, view) for view in (0, 1)])]
        if self.n_local:
            # half the side, but not less than 12 pixels where the large ones have them
            large = self.views.size_for(self.image_size)
            size = [max(1, side // 2, min(side, 12)) for side in large]
            local = clone(self.views).set_params(
                size=size, crop_scale=self.local_scale, solarize=0.0
            )
            crops.append(torch.cat([local(images, view) for view in range(self.n_local)]))
        return crops


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
        that lines which cross the border do not give the neighbour away.
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
    height_width = augment.constants((cell_h * fill, cell_w * fill), images).expand(*top.shape, 2)
    boxes = torch.cat([torch.stack([top, left], dim=2), height_width], dim=2)
    if span < 1:
        whole = span + (1 - span) * torch.rand(n, 1, 1, device=images.device)
        corner = (1 - whole) * torch.rand(n, 1, 2, device=images.device)
        corner = corner * augment.constants((height, width), images)
        boxes = whole * boxes + F.pad(corner, (0, 2))
    with full_precision(images.device):  # one place after the other: images need no copies
        tiles = [augment.crop_resize(images, boxes[:, i], size) for i in range(grid * grid)]
    return torch.stack(tiles, dim=1)
