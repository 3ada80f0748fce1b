"""Heads that tasks put on an encoder: projectors and decoders."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvDecoder", "MaskedConvContext", "mlp"]


def mlp(*widths: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them: ``mlp(in, hidden, out)``.

    Linear layers followed by a batch norm have no bias. ``last_norm`` puts a batch norm without
    ReLU behind the last layer.
    """
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        normed = not last or last_norm
        layers.append(nn.Linear(n_in, n_out, bias=not normed))
        if normed:
            layers.append(nn.BatchNorm1d(n_out))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ConvDecoder(nn.Module):
    """From a feature map (n, d, gh, gw) to an image: double the size, convolve, repeat.

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
        widths = [width] + [max(width // 2 ** (i + 1), 32) for i in range(n_stages)]
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
        """An image of ``size``, which need not be a multiple of the map's."""
        for left, stage in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            shape = [-(-side // 2**left) for side in size]
            features = stage(F.interpolate(features, shape, mode="nearest"))
        return self.head(features)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place alone: statistics of later rows would leak."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class MaskedConvContext(nn.Module):
    """Masked convolutions (as in PixelCNN): each place sees its own row and the rows above."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _ChannelNorm(width),
                nn.Conv2d(width, width // 2, 1),
                nn.ReLU(inplace=True),
                nn.ZeroPad2d((1, 1, 1, 0)),  # the row below is masked
                nn.Conv2d(width // 2, width // 2, (2, 3)),
                nn.ReLU(inplace=True),
                nn.Conv2d(width // 2, width, 1),
            )
            for _ in range(blocks)
        )

    def forward(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = z + block(z)
        return F.relu(z)
