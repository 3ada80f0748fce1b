"""What tasks put on an encoder: projectors, decoders, critics, averaged copies and queues."""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sklearn_ssl.backbones import TinyMapConv2d

__all__ = [
    "ConvCritic",
    "ConvDecoder",
    "MapToVector",
    "MaskedConvContext",
    "Queue",
    "VectorDecoder",
    "follow",
    "frozen",
    "mlp",
    "momentum_copy",
    "resize_map",
]

M = TypeVar("M", bound=nn.Module)


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = True) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them: ``mlp(in, hidden, out)``.

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

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """An image of ``size``, which need not be a multiple of the map's."""
        for left, stage in zip(reversed(range(len(self.stages))), self.stages, strict=True):
            shape = [-(-side // 2**left) for side in size]
            features = stage(F.interpolate(features, shape, mode="nearest"))
        return self.head(features)


class MapToVector(nn.Module):
    """A feature map (n, d, gh, gw) to a vector (n, dim); maps of another size are resized."""

    def __init__(self, map_shape: tuple[int, int, int], dim: int):
        super().__init__()
        width, *self.grid = map_shape
        self.linear = nn.Linear(width * math.prod(self.grid), dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(resize_map(features, self.grid).flatten(1))


class VectorDecoder(nn.Module):
    """A vector (n, dim) to an image, by way of a feature map."""

    def __init__(
        self, dim: int, map_shape: tuple[int, int, int], channels: int, size: tuple[int, int]
    ):
        super().__init__()
        self.map_shape = map_shape
        self.linear = nn.Linear(dim, math.prod(map_shape))
        self.decoder = ConvDecoder(map_shape, channels, size)

    def forward(self, vectors: Tensor, size: Sequence[int]) -> Tensor:
        return self.decoder(self.linear(vectors).unflatten(1, self.map_shape), size)


def resize_map(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Feature maps (n, d, *grid), averaged or repeated where they have another grid."""
    if list(features.shape[2:]) == list(grid):
        return features
    rows, columns = grid
    return F.adaptive_avg_pool2d(features, (rows, columns))


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


class ConvCritic(nn.Module):
    """Images (n, c, h, w), and vectors (n, d) if ``vector_dim``, to a logit (n,): real or made."""

    def __init__(self, channels: int, size: tuple[int, int], vector_dim: int = 0, width: int = 32):
        super().__init__()
        n_stages = max(1, math.ceil(math.log2(max(size) / 4)))
        widths = [channels] + [min(width * 2**i, 256) for i in range(n_stages)]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(TinyMapConv2d(n_in, n_out, 4, 2, 2), nn.LeakyReLU(0.2))
                for n_in, n_out in pairwise(widths)
            )
        )
        self.head = nn.Sequential(
            nn.Linear(widths[-1] + vector_dim, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )

    def forward(self, images: Tensor, vectors: Tensor | None = None) -> Tensor:
        features = self.stages(images).mean((2, 3))
        if vectors is not None:
            features = torch.cat([features, vectors.to(features.dtype)], dim=1)
        return self.head(features)[:, 0]


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """``module(*inputs)`` with gradients for the inputs, but none for the module.

    Both players of an adversarial game can so be trained by one loss.
    """
    held = {name: p.detach() for name, p in module.named_parameters()}
    return functional_call(module, held, inputs)


def momentum_copy(module: M) -> M:
    """A copy that no gradient trains; :func:`follow` moves it."""
    return copy.deepcopy(module).requires_grad_(False)


def follow(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move a copy towards its module: average = momentum * average + (1 - momentum) * module."""
    parameters = list(average.parameters()), list(module.parameters())
    get_ema_multi_avg_fn(momentum)(*parameters, None)


class Queue(nn.Module):
    """The latest vectors, first in, first out; random directions until it is full.

    Parameters
    ----------
    size, dim : int
        Number and length of the vectors.
    """

    vectors: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> Tensor:
        """Whether all random directions have been replaced; a bool scalar on the device."""
        return self.pushed >= len(self.vectors)

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        """Replace the oldest vectors by ``new`` (n, dim)."""
        size = len(self.vectors)
        new = new[-size:]
        places = (self.pushed + torch.arange(len(new), device=new.device)) % size
        self.vectors[places] = new.float()
        self.pushed += len(new)
