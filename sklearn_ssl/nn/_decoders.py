"""Decoders of feature maps and vectors to images."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._ranks import by_rank

__all__ = ["ConvDecoder", "VectorDecoder"]


class ConvDecoder(nn.Module):
    """Decoder of a feature map (n, d, gh, gw) to an image: double the size, convolve, repeat.

    Parameters
    ----------
    map_shape : tuple of int
        d, gh, gw for images of ``size``.
    channels : int
        Of the image.
    size : tuple of int
        Height and width of the images.
    """

    def __init__(self, map_shape: tuple[int, int, int], channels: int, size: tuple[int, int]):
        super().__init__()
        width, *grid = map_shape
        factor = max(side / cells for side, cells in zip(size, grid, strict=True))
        n_stages = max(1, math.ceil(math.log2(factor)))
        # every stage is four times as large as the one before, so wide encoders narrow at once
        widths = [width] + [max(min(width, 512) // 2 ** (i + 1), 32) for i in range(n_stages)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(inplace=True),
            )
            for n_in, n_out in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], channels, 3, padding=1)

    @by_rank
    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Decode to an image of ``size``, which need not be a multiple of the map's."""
        for left, stage in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            shape = [-(-side // 2**left) for side in size]
            features = stage(F.interpolate(features, shape, mode="nearest"))
        return self.head(features)


class VectorDecoder(nn.Module):
    """Decoder of a vector (n, dim) to an image, by way of a feature map."""

    def __init__(
        self, dim: int, map_shape: tuple[int, int, int], channels: int, size: tuple[int, int]
    ):
        super().__init__()
        self.map_shape = map_shape
        self.linear = nn.Linear(dim, math.prod(map_shape))
        self.decoder = ConvDecoder(map_shape, channels, size)

    @by_rank
    def forward(self, vectors: Tensor, size: Sequence[int]) -> Tensor:
        return self.decoder(self.linear(vectors).unflatten(1, self.map_shape), size)
