"""Crops, flips and turns."""

import math

import torch
from torch import Tensor

from sklearn_ssl.views.functional._color import _per_image

__all__ = ["crop_resize", "flip", "random_boxes", "rotate90"]


def _resize_matrix(
    start: Tensor, length: Tensor, n_in: int, n_out: int, mirrored: Tensor | None, antialias: bool
) -> Tensor:
    """Compute triangle-filter weights (n, n_out, n_in) to resize [start, start + length)."""
    position = torch.arange(n_out, device=start.device, dtype=start.dtype) + 0.5
    position = position.expand(len(start), n_out)
    if mirrored is not None:
        position = torch.where(mirrored[:, None], n_out - position, position)
    scale = (length / n_out)[:, None]
    center = start[:, None] + position * scale
    support = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    pixel = torch.arange(n_in, device=start.device, dtype=start.dtype) + 0.5
    weights = (pixel / support)[:, None] - (center / support)[..., None]
    weights = weights.abs_().neg_().add_(1).clamp_(min=0)
    # pixels outside the box count by how far the box covers them: 0 or 1 for whole-number boxes
    covered = torch.minimum(pixel + 0.5, (start + length)[:, None])
    covered = (covered - torch.maximum(pixel - 0.5, start[:, None])).clamp_(0, 1)
    total = torch.bmm(weights, covered[..., None]).clamp_(min=1e-12)
    return weights.mul_(covered[:, None]).div_(total)


def _apply_along_sides(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply each image by its ``rows`` (n, h', h) from the left, ``columns`` from the right."""
    n, c, h, w = images.shape
    out_h, out_w = rows.shape[1], columns.shape[1]
    # plain bmm on repeated weights: a broadcast matmul over the channels is many times slower
    half = torch.bmm(images.reshape(n, c * h, w), columns.transpose(1, 2))
    rows = rows[:, None].expand(n, c, out_h, h).reshape(n * c, out_h, h)
    return torch.bmm(rows, half.view(n * c, h, out_w)).view(n, c, out_h, out_w)


def crop_resize(
    images: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    mirrored: Tensor | None = None,
    antialias: bool = True,
) -> Tensor:
    """Cut one box out of each image and resize it (bilinear).

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    boxes : Tensor of shape (n, 4)
        Top, left, height and width in pixels; fractions are allowed.
    size : tuple of int
        Height and width of the result.
    mirrored : bool Tensor of shape (n,), optional
        Which results are flipped left to right, at no extra cost.
    antialias : bool, default=True
        Widen the filter where a box is shrunk.

    Returns
    -------
    Tensor of shape (n, c, \\*size)

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl.views.functional import crop_resize
    >>> image = torch.arange(16.0).view(1, 1, 4, 4) / 16
    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> crop_resize(image, boxes, (2, 2)).mul(16)
    tensor([[[[0., 1.],
              [4., 5.]]]])
    """
    top, left, height, width = boxes.to(images.dtype).unbind(1)
    rows = _resize_matrix(top, height, images.shape[2], size[0], None, antialias)
    columns = _resize_matrix(left, width, images.shape[3], size[1], mirrored, antialias)
    return _apply_along_sides(images, rows, columns)


def random_boxes(
    n: int,
    height: int | Tensor,
    width: int | Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw boxes that lie anywhere in an image.

    Boxes longer than a side are cut to it, so that narrow images never fail.

    Parameters
    ----------
    n : int
        Number of boxes.
    height, width : int or Tensor of shape (n,)
        Of the images, in pixels.
    scale : tuple of float
        Range of the share of the image's area that a box covers.
    ratio : tuple of float
        Range of its width to its height, drawn log-uniformly.
    device : torch.device or str, optional

    Returns
    -------
    Tensor of shape (n, 4)
        Top, left, height and width, in pixels and fractions of them.
    """
    area, aspect, down, right = torch.rand(n, 4, device=device).unbind(1)
    height, width = (
        side if isinstance(side, Tensor) else torch.full_like(area, side)
        for side in (height, width)
    )
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * aspect).exp()
    box_width = torch.minimum((area * aspect).sqrt().clamp(min=1), width.clamp(min=1))
    box_height = torch.minimum((area / aspect).sqrt().clamp(min=1), height.clamp(min=1))
    top, left = down * (height - box_height), right * (width - box_width)
    return torch.stack([top, left, box_height, box_width], dim=1)


def flip(images: Tensor, which: Tensor, dim: int = 3) -> Tensor:
    """Mirror some images.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    which : bool Tensor of shape (n,)
    dim : int, default=3
        3 mirrors left to right, 2 top to bottom.

    Returns
    -------
    Tensor, like images
    """
    return torch.where(_per_image(which), images.flip(dim), images)


def rotate90(images: Tensor, turns: Tensor) -> Tensor:
    """Turn images counter-clockwise.

    Parameters
    ----------
    images : Tensor of shape (n, c, side, side)
    turns : int Tensor of shape (n,)
        In quarter turns.

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the images are not square: a quarter turn would change their shape.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"quarter turns need square images, not {tuple(images.shape[2:])}")
    turns = _per_image(turns % 4)
    out = images
    for k in (1, 2, 3):
        out = torch.where(turns == k, torch.rot90(images, k, (2, 3)), out)
    return out
