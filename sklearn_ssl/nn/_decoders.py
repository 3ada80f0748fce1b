"""Decoders of feature maps and vectors to images."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class ConvDecoder(nn.Module):
    """Decoder of feature maps (n, d, gh, gw) to images: double the size, convolve, repeat.

    Parameters
    ----------
    map_shape : tuple of int
        d, gh, gw for images of ``size``.
    channels : int
        Channels of the images.
    size : tuple of int
        Height and width of the images.
    """

    def __init__(self, map_shape: tuple[int, int, int], channels: int, size: tuple[int, int]):
        super().__init__()
        width, *grid = map_shape
        factor = max(side / cells for side, cells in zip(size, grid, strict=True))
        n_stages = max(1, math.ceil(math.log2(factor)))
        # each stage has four times as many positions as the one before, so wide maps narrow early
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

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Decode to images of ``size``, which need not be a multiple of the map's size."""
        for left, stage in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            shape = [-(-side // 2**left) for side in size]
            features = stage(F.interpolate(features, shape, mode="nearest"))
        return self.head(features)


class VectorDecoder(nn.Module):
    """Decoder of vectors (n, dim) to images, via a feature map."""

    def __init__(
        self, dim: int, map_shape: tuple[int, int, int], channels: int, size: tuple[int, int]
    ):
        super().__init__()
        self.map_shape = map_shape
        self.linear = nn.Linear(dim, math.prod(map_shape))
        self.decoder = ConvDecoder(map_shape, channels, size)

    def forward(self, vectors: Tensor, size: Sequence[int]) -> Tensor:
        return self.decoder(self.linear(vectors).unflatten(1, self.map_shape), size)
