"""A fitted encoder as a module of torch alone."""

import copy
from typing import Any

from torch import Tensor, nn

from sklearn_ssl.encoders import Pair
from sklearn_ssl.images import PixelRange
from sklearn_ssl.nn import ChannelScaling

__all__ = ["FeatureExtractor"]


class FeatureExtractor(nn.Module):
    """Pixels, as a learner was fitted to, to the features of layers.

    It has copies of what the learner has, on the CPU and in evaluation mode.

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

    origin: Tensor

    def __init__(self, pixels: PixelRange, encoder: Any, wanted: list[Pair], mirror: bool):
        super().__init__()
        self.scaling = ChannelScaling(pixels.offset.flatten(), pixels.scale.flatten())
        self.register_buffer("origin", pixels.base.view(1, -1, 1, 1).clone())
        self.is_far = pixels.origin is not None
        self.encoder = copy.deepcopy(encoder)
        self.wanted = wanted
        self.mirror = mirror
        self.requires_grad_(False).cpu().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (n, d), float32, of pixels (n, c, h, w) in any type."""
        if self.is_far:
            pixels = pixels.double() - self.origin.double()
        return self.encoder.features(self.scaling(pixels.float()), self.wanted, self.mirror)
