"""Heads that tasks put on an encoder: projectors, codes, contexts and discriminators."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sklearn_ssl._utils._ranks import by_rank

__all__ = ["ConvDiscriminator", "MapToVector", "MaskedConvContext", "frozen", "mlp", "resize_map"]


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = True) -> nn.Sequential:
    """Build linear layers with batch norm and ReLU between them: ``mlp(in, hidden, out)``.

    Linear layers followed by a batch norm have no bias. ``last_norm`` puts a batch norm without
    scale and shift behind the last layer; ``last_bias=False`` is for losses that a constant does
    not change.
    """
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        normed = not last or last_norm
        layers.append(nn.Linear(n_in, n_out, bias=not normed and (last_bias or not last)))
        if normed:
            layers.append(nn.BatchNorm1d(n_out, affine=not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return _MLP(*layers)


class _MLP(nn.Sequential):
    @by_rank
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class MapToVector(nn.Module):
    """Linear map of a feature map (n, d, gh, gw) to a vector (n, dim); other sizes are resized."""

    def __init__(self, map_shape: tuple[int, int, int], dim: int):
        super().__init__()
        width, *self.grid = map_shape
        self.linear = nn.Linear(width * math.prod(self.grid), dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(resize_map(features, self.grid).flatten(1))


def resize_map(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Resize feature maps to ``(n, d, *grid)``, by averaging or repeating values."""
    if list(features.shape[2:]) == list(grid):
        return features
    rows, columns = grid
    return F.adaptive_avg_pool2d(features, (rows, columns))


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position alone: statistics of later rows would leak."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class MaskedConvContext(nn.Module):
    """Masked convolutions (as in PixelCNN): each position sees its own row and the rows above."""

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

    @by_rank
    def forward(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = z + block(z)
        return F.relu(z)


class ConvDiscriminator(nn.Module):
    """Discriminator of images, and vectors (n, d) if ``vector_dim``, to a logit: real or made."""

    def __init__(self, channels: int, size: tuple[int, int], vector_dim: int = 0, width: int = 32):
        super().__init__()
        n_stages = max(1, math.ceil(math.log2(max(size) / 4)))
        widths = [channels] + [min(width * 2**i, 256) for i in range(n_stages)]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(n_in, n_out, 4, 2, 2), nn.LeakyReLU(0.2))
                for n_in, n_out in pairwise(widths)
            )
        )
        self.head = nn.Sequential(
            nn.Linear(widths[-1] + vector_dim, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )

    @by_rank
    def forward(self, images: Tensor, vectors: Tensor | None = None) -> Tensor:
        features = self.stages(images).mean((2, 3))
        if vectors is not None:
            features = torch.cat([features, vectors.to(features.dtype)], dim=1)
        return self.head(features)[:, 0]


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """Call ``module(*inputs)`` with gradients for the inputs, but none for the module.

    So one loss can train both players of an adversarial game.
    """
    held = {name: p.detach() for name, p in module.named_parameters()}
    return functional_call(module, held, inputs)
