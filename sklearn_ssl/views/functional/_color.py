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
    """(n,) -> (n, 1, 1, 1)."""
    return parameter[:, None, None, None]


def _need_rgb(images: Tensor, operation: str) -> None:
    if images.shape[1] != 3:
        raise ValueError(f"{operation} needs RGB images; these have {images.shape[1]} channels")


def _mean_gray(images: Tensor) -> Tensor:
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
    """Move away from the mean gray value (RGB) or channel mean (others) by ``factor`` (n,)."""
    return torch.lerp(_mean_gray(images), images, _per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move RGB images away from their gray version by ``factor`` (n,)."""
    _need_rgb(images, "saturation")
    return torch.lerp(_luma(images), images, _per_image(factor)).clamp_(0, 1)


def gray(images: Tensor, which: Tensor) -> Tensor:
    """Turn RGB images gray (three equal channels) where ``which`` (bool, (n,)) is true."""
    _need_rgb(images, "grayscale")
    return torch.where(_per_image(which), _luma(images), images)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of RGB images by ``shift`` (n,), in turns of the color circle [-0.5, 0.5]."""
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
    """Brightness, contrast and saturation, in this order, as one affine map of RGB per image.

    The same as the three functions above, but for clipping once at the end.
    """
    _need_rgb(images, "the color matrix")
    n, _, h, w = images.shape
    luma = constants(_LUMA, images)
    scale = (brightness * contrast)[:, None, None]
    saturated = torch.lerp(
        luma.expand(n, 3, 3), torch.eye(3, device=images.device), saturation[:, None, None]
    )
    mean = (images.mean((2, 3)) * luma).sum(1) * brightness * (1 - contrast)
    # the gray offset is unchanged by the saturation, whose rows sum to one
    offset = mean[:, None, None].expand(n, 3, 1)
    out = torch.baddbmm(offset, saturated * scale, images.reshape(n, 3, h * w))
    return out.view_as(images).clamp_(0, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels at or above ``threshold`` (n,); a threshold above 1 changes nothing."""
    return torch.where(images >= _per_image(threshold), 1 - images, images)
