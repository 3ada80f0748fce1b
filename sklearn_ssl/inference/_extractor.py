"""A fitted encoder as modules of torch alone."""

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl.encoders import Pair
from sklearn_ssl.images import PixelRange
from sklearn_ssl.nn import ChannelScaling

__all__ = ["FeatureExtractor", "Predictor", "resized"]


def resized(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Resize images (n, c, h, w) to this height and width; None leaves them as they are."""
    if size is None or tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


class _OfPixels(nn.Module):
    """Copy of an encoder on the CPU, in evaluation mode, and the scaling of pixels to [0, 1]."""

    origin: Tensor

    def __init__(self, pixels: PixelRange, encoder: Any):
        super().__init__()
        self.scaling = ChannelScaling(pixels.offset.flatten(), pixels.scale.flatten())
        self.register_buffer("origin", pixels.base.view(1, -1, 1, 1).clone())
        self.is_far = pixels.origin is not None
        self.encoder = copy.deepcopy(encoder)

    def images(self, pixels: Tensor) -> Tensor:
        """Scale pixels (n, c, h, w) of any type to images in [0, 1]."""
        if self.is_far:
            pixels = pixels.double() - self.origin.double()
        return self.scaling(pixels.float())


class FeatureExtractor(_OfPixels):
    """Module from pixels, as a learner was fitted to, to the features of layers.

    Parameters
    ----------
    pixels : PixelRange
        Takes pixels to [0, 1].
    encoder : Encoder
    wanted : list of (str, pool)
        Layers, each with what :func:`pool_features` does to it.
    mirror : bool
        Whether features are the mean over an image and its mirror image.
    """

    def __init__(self, pixels: PixelRange, encoder: Any, wanted: list[Pair], mirror: bool):
        super().__init__(pixels, encoder)
        self.wanted = wanted
        self.mirror = mirror
        self.requires_grad_(False).cpu().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (n, d), float32, of pixels (n, c, h, w) of any type."""
        return self.encoder.features(self.images(pixels), self.wanted, self.mirror)


class Predictor(_OfPixels):
    """Module from pixels, as a network was fine-tuned to, to the predictions of its head.

    Parameters
    ----------
    pixels : PixelRange
        Takes pixels to [0, 1].
    encoder : Encoder
    size : (int, int) or None
        Height and width to which images are resized for the encoder.
    head, finish : nn.Module
        Of the last map's mean, and of what that gives.
    """

    def __init__(
        self,
        pixels: PixelRange,
        encoder: Any,
        size: tuple[int, int] | None,
        head: nn.Module,
        finish: nn.Module,
    ):
        super().__init__(pixels, encoder)
        self.size = size
        self.head = copy.deepcopy(head)
        self.finish = finish
        self.requires_grad_(False).cpu().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Predict probabilities of classes, or targets, float32, from pixels (n, c, h, w)."""
        images = resized(self.images(pixels), self.size)
        return self.finish(self.head(self.encoder.embed(images)))
