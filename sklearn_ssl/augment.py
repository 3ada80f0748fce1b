"""Batched image operations with one parameter per image.

Every function takes ``images``, a float tensor of shape (n, c, h, w) with values in [0, 1], and
parameters of shape (n, ...); it draws nothing, so the same parameters give the same result. The
random recipes that draw them are in :mod:`sklearn_ssl.views`.

Geometry is two matrix products per image (resizing along a side is a linear map), colour is one
3x3 matrix per image except for the hue; this is what makes a batch as cheap as it is. Saturation,
hue and greyscale are defined for RGB alone and refuse other channel counts.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "add_noise",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "colour_matrix",
    "crop_resize",
    "erase",
    "flip",
    "gaussian_blur",
    "grey",
    "mask",
    "random_boxes",
    "random_patch_mask",
    "rotate90",
    "solarize",
]

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision


def _per_image(parameter: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)."""
    return parameter[:, None, None, None]


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """A small tensor of the type of ``like``, filled on its device.

    ``torch.tensor`` would copy it from the CPU, and wait for a GPU to finish what it is doing.
    """
    return torch.cat([like.new_full((1,), value) for value in values])


def _need_rgb(images: Tensor, operation: str) -> None:
    if images.shape[1] != 3:
        raise ValueError(f"{operation} needs RGB images; these have {images.shape[1]} channels")


# Geometry


def _resize_matrix(
    start: Tensor, length: Tensor, n_in: int, n_out: int, mirrored: Tensor | None, antialias: bool
) -> Tensor:
    """Triangle-filter weights (n, n_out, n_in) that resize [start, start + length) to n_out."""
    position = torch.arange(n_out, device=start.device, dtype=start.dtype) + 0.5
    position = position.expand(len(start), n_out)
    if mirrored is not None:
        position = torch.where(mirrored[:, None], n_out - position, position)
    scale = (length / n_out)[:, None]
    centre = start[:, None] + position * scale
    support = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    pixel = torch.arange(n_in, device=start.device, dtype=start.dtype) + 0.5
    weights = (pixel / support)[:, None] - (centre / support)[..., None]
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
    >>> from sklearn_ssl.augment import crop_resize
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
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    device: torch.device | str | None = None,
) -> Tensor:
    """Boxes (n, 4) with an area share in ``scale`` and an aspect ratio in ``ratio``, log-uniform.

    Boxes longer than a side are cut to it, so that narrow images never fail.
    """
    area, aspect, down, right = torch.rand(4, n, device=device).unbind()
    area = (scale[0] + (scale[1] - scale[0]) * area) * (height * width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * aspect).exp()
    box_width = (area * aspect).sqrt().clamp(1, max(width, 1))
    box_height = (area / aspect).sqrt().clamp(1, max(height, 1))
    top, left = down * (height - box_height), right * (width - box_width)
    return torch.stack([top, left, box_height, box_width], dim=1)


def flip(images: Tensor, which: Tensor, dim: int = 3) -> Tensor:
    """Mirror the images where ``which`` (bool, (n,)) is true: left-right, or along ``dim``."""
    return torch.where(_per_image(which), images.flip(dim), images)


def rotate90(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image counter-clockwise by ``turns`` (int, (n,)) quarter turns.

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


# Colour


def _mean_grey(images: Tensor) -> Tensor:
    """What contrast turns about: the mean luma of RGB images, else each channel's mean."""
    mean = images.mean((2, 3), keepdim=True)
    if images.shape[1] != 3:
        return mean
    return (mean * constants(_LUMA, mean).view(3, 1, 1)).sum(1, keepdim=True)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by ``factor`` (n,), then clip to [0, 1]."""
    return (images * _per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from the mean grey value (RGB) or channel mean (others) by ``factor`` (n,)."""
    return torch.lerp(_mean_grey(images), images, _per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move RGB images away from their grey version by ``factor`` (n,)."""
    _need_rgb(images, "saturation")
    return torch.lerp(_luma(images), images, _per_image(factor)).clamp_(0, 1)


def grey(images: Tensor, which: Tensor) -> Tensor:
    """Turn RGB images grey (three equal channels) where ``which`` (bool, (n,)) is true."""
    _need_rgb(images, "greyscale")
    return torch.where(_per_image(which), _luma(images), images)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``shift`` (n,), in turns of the colour circle [-0.5, 0.5]."""
    _need_rgb(images, "hue")
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    # hue in sixths of the circle, from -3 to 3, without cases: as it grows from 0 to 3, first green
    # rises, then red falls, then blue rises; from 0 to -3 green and blue change places
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-8)).add_(1)
    hue = torch.copysign(hue, green - blue)
    # back without cases: value - chroma * clip(min(k, 4 - k), 0, 1), k = (hue + offset) mod 6
    # with offset = 5, 3, 1 for red, green, blue; min(k, 4 - k) is 2 - |k - 2|. In turns of the
    # circle the modulus is the fraction, and 2 more turns keep it positive
    hue = hue.div_(6).add_((shift + 2)[:, None, None])
    offset = constants((5 / 6, 3 / 6, 1 / 6), images)
    k = (hue[:, None] + offset[:, None, None]).frac_()
    share = k.sub_(1 / 3).abs_().mul_(-6).add_(2).clamp_(0, 1)
    return share.mul_(chroma[:, None]).neg_().add_(value[:, None])


def colour_matrix(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Brightness, contrast and saturation, in this order, as one affine map of RGB per image.

    The same as the three functions above, but for clipping once at the end.
    """
    _need_rgb(images, "the colour matrix")
    n, _, h, w = images.shape
    luma = constants(_LUMA, images)
    scale = (brightness * contrast)[:, None, None]
    saturated = torch.lerp(
        luma.expand(n, 3, 3), torch.eye(3, device=images.device), saturation[:, None, None]
    )
    mean = (images.mean((2, 3)) * luma).sum(1) * brightness * (1 - contrast)
    # the grey offset is unchanged by the saturation, whose rows sum to one
    offset = mean[:, None, None].expand(n, 3, 1)
    out = torch.baddbmm(offset, saturated * scale, images.reshape(n, 3, h * w))
    return out.view_as(images).clamp_(0, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels at or above ``threshold`` (n,); a threshold above 1 changes nothing."""
    return torch.where(images >= _per_image(threshold), 1 - images, images)


# Blur, noise, holes


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

    The grid is stretched over the image by nearest neighbour; a grid of the image's own size masks
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
