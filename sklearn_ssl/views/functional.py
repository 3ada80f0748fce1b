"""Batched image operations with one parameter per image.

Every function takes ``images``, a float tensor of shape (n, c, h, w) with values in [0, 1], and
parameters of shape (n, ...). Nothing is random: the same parameters give the same result. The
recipes in :mod:`sklearn_ssl.views` draw these parameters.

Geometry takes two matrix products per image (resizing along a side is a linear map), and color
one 3x3 matrix per image, except for the hue; this makes batches cheap. Saturation, hue and
grayscale are defined for RGB only and reject other channel counts.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._torch import constants

__all__ = [
    "add_noise",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "color_matrix",
    "crop_resize",
    "erase",
    "flip",
    "gaussian_blur",
    "gray",
    "random_boxes",
    "rotate90",
    "solarize",
]


def __dir__() -> list[str]:
    return __all__


_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision


def _per_image(parameter: Tensor) -> Tensor:
    """Reshape (n,) to (n, 1, 1, 1)."""
    return parameter[:, None, None, None]


def _need_rgb(images: Tensor, operation: str) -> None:
    if images.shape[1] != 3:
        raise ValueError(f"{operation} needs RGB images; these have {images.shape[1]} channels")


def _mean_gray(images: Tensor) -> Tensor:
    """Return the center of contrast changes: the mean luma for RGB, else each channel's mean."""
    mean = images.mean((2, 3), keepdim=True)
    if images.shape[1] != 3:
        return mean
    return (mean * constants(_LUMA, mean).view(3, 1, 1)).sum(1, keepdim=True)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply all values, then clip them to [0, 1].

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    factor : Tensor of shape (n,)
        1 changes nothing, 0 makes an image black.

    Returns
    -------
    Tensor, like images
    """
    return (images * _per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of values from their mean, then clip them to [0, 1].

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    factor : Tensor of shape (n,)
        1 changes nothing; 0 leaves the mean of the gray version for RGB, else of each channel.

    Returns
    -------
    Tensor, like images
    """
    return torch.lerp(_mean_gray(images), images, _per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of colors from gray, then clip them to [0, 1].

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    factor : Tensor of shape (n,)
        1 changes nothing, 0 leaves the gray version.

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the images are not RGB.
    """
    _need_rgb(images, "saturation")
    return torch.lerp(_luma(images), images, _per_image(factor)).clamp_(0, 1)


def gray(images: Tensor, which: Tensor) -> Tensor:
    """Convert some images to grayscale.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    which : bool Tensor of shape (n,)
        Images whose three channels become their luma (ITU-R 601-2).

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the images are not RGB.
    """
    _need_rgb(images, "grayscale")
    return torch.where(_per_image(which), _luma(images), images)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate hues on the color circle.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    shift : Tensor of shape (n,)
        Shift in turns, in [-0.5, 0.5].

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the images are not RGB.
    """
    _need_rgb(images, "hue")
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    # hue in sixths of the circle, from -3 to 3, without branches: from 0 to 3, first green rises,
    # then red falls, then blue rises; from 0 to -3, green and blue swap roles
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-8)).add_(1)
    hue = torch.copysign(hue, green - blue)
    # back without branches: value - chroma * clip(min(k, 4 - k), 0, 1), k = (hue + offset) mod 6
    # with offset = 5, 3, 1 for red, green, blue; min(k, 4 - k) is 2 - |k - 2|. In turns of the
    # circle the modulus is the fraction, and 2 more turns keep it positive
    hue = hue.div_(6).add_((shift + 2)[:, None, None])
    offset = constants((5 / 6, 3 / 6, 1 / 6), images)
    k = (hue[:, None] + offset[:, None, None]).frac_()
    share = k.sub_(1 / 3).abs_().mul_(-6).add_(2).clamp_(0, 1)
    return share.mul_(chroma[:, None]).neg_().add_(value[:, None])


def color_matrix(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Change brightness, contrast and saturation, in this order, by one affine map of colors.

    This combines :func:`adjust_brightness`, :func:`adjust_contrast` and
    :func:`adjust_saturation`, but clips to [0, 1] only once.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    brightness, contrast, saturation : Tensor of shape (n,)
        Factors; 1 changes nothing.

    Returns
    -------
    Tensor, like images

    Raises
    ------
    ValueError
        If the images are not RGB.
    """
    _need_rgb(images, "the color matrix")
    n, _, h, w = images.shape
    luma = constants(_LUMA, images)
    scale = (brightness * contrast)[:, None, None]
    saturated = torch.lerp(
        luma.expand(n, 3, 3),
        torch.eye(3, dtype=images.dtype, device=images.device),
        saturation[:, None, None],
    )
    mean = (images.mean((2, 3)) * luma).sum(1) * brightness * (1 - contrast)
    # the gray offset is unchanged by the saturation, whose rows sum to one
    offset = mean[:, None, None].expand(n, 3, 1)
    out = torch.baddbmm(offset, saturated * scale, images.reshape(n, 3, h * w))
    return out.view_as(images).clamp_(0, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert bright values.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    threshold : Tensor of shape (n,)
        Values at or above it become 1 minus themselves; a threshold above 1 changes nothing.

    Returns
    -------
    Tensor, like images
    """
    return torch.where(images >= _per_image(threshold), 1 - images, images)


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
    # pixels are weighted by the part that the box covers: 0 or 1 for boxes of whole pixels
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
    """Crop one box from each image and resize it (bilinear).

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    boxes : Tensor of shape (n, 4)
        Top, left, height and width in pixels; fractions are allowed.
    size : tuple of int
        Height and width of the result.
    mirrored : bool Tensor of shape (n,), optional
        Results to flip left to right, at no extra cost.
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
    """Draw boxes at random positions in an image.

    Boxes longer than a side are clipped to it, so narrow images never fail.

    Parameters
    ----------
    n : int
        Number of boxes.
    height, width : int or Tensor of shape (n,)
        Height and width of the images in pixels.
    scale : tuple of float
        Range of a box's area as a fraction of the image.
    ratio : tuple of float
        Range of a box's aspect ratio (width / height), drawn log-uniformly.
    device : torch.device or str, optional

    Returns
    -------
    Tensor of shape (n, 4)
        Top, left, height and width, in pixels with fractions.
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
    """Rotate images counterclockwise.

    Parameters
    ----------
    images : Tensor of shape (n, c, side, side)
    turns : int Tensor of shape (n,)
        Number of quarter turns.

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


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur images with a Gaussian and mirrored borders.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    sigma : Tensor of shape (n,)
        Standard deviation in pixels; 0 changes nothing.
    kernel_size : int
        Width of the filter in pixels, odd. It is reduced for images too small to mirror half of it.

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
        Top, left, height and width in pixels. A box of zero height or width erases nothing.
    value : float, default=0.0
        Fill value.

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
