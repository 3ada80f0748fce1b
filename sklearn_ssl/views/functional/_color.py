"""Brightness, contrast, saturation, hue and the like."""

import torch
from torch import Tensor

from sklearn_ssl._utils._device import constants

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "color_matrix",
    "gray",
    "solarize",
]

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as in torchvision


def _per_image(parameter: Tensor) -> Tensor:
    """Reshape (n,) to (n, 1, 1, 1)."""
    return parameter[:, None, None, None]


def _need_rgb(images: Tensor, operation: str) -> None:
    if images.shape[1] != 3:
        raise ValueError(f"{operation} needs RGB images; these have {images.shape[1]} channels")


def _mean_gray(images: Tensor) -> Tensor:
    """Return what contrast turns about: the mean luma of RGB images, else each channel's mean."""
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
    """Move values away from their mean, then clip them to [0, 1].

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
    factor : Tensor of shape (n,)
        1 changes nothing; 0 leaves the mean: of the gray version for RGB, else of each channel.

    Returns
    -------
    Tensor, like images
    """
    return torch.lerp(_mean_gray(images), images, _per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move colors away from gray, then clip them to [0, 1].

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
    """Take the color away from some images.

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
    """Turn hues on the color circle.

    Parameters
    ----------
    images : Tensor of shape (n, 3, h, w)
    shift : Tensor of shape (n,)
        In turns, in [-0.5, 0.5].

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


def color_matrix(
    images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Change brightness, contrast and saturation, in this order, by one affine map of colors.

    It does what :func:`adjust_brightness`, :func:`adjust_contrast` and :func:`adjust_saturation`
    do, in one step, and so clips to [0, 1] once.

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
        Values from it on become 1 minus themselves; above 1 it changes nothing.

    Returns
    -------
    Tensor, like images
    """
    return torch.where(images >= _per_image(threshold), 1 - images, images)
