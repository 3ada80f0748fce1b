"""Small modules shared by pretext tasks: scaling, MLPs, resizing, context, discriminators."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class ChannelScaling(nn.Module):
    """Module for ``(images - offset) / scale``, channel by channel.

    It scales pixels to [0, 1], and standardizes images in [0, 1] to zero mean and unit variance.

    Parameters
    ----------
    offset, scale : sequence of float
        One value per channel.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl.nn import ChannelScaling
    >>> scaling = ChannelScaling([0.0], [255.0])
    >>> pixels = torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    >>> scaling(pixels)[0, 0, 0]
    tensor([0.2000, 0.2000])
    >>> scaling.inverse(scaling(pixels))[0, 0, 0]
    tensor([51., 51.])
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Sequence[float] | Tensor, scale: Sequence[float] | Tensor):
        super().__init__()
        for name, values in (("offset", offset), ("scale", scale)):
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Scale images (n, c, h, w) of any type."""
        return (images - self.offset) / self.scale

    def inverse(self, images: Tensor) -> Tensor:
        """Invert :meth:`forward` and return floats."""
        return images * self.scale + self.offset


def mlp(*widths: int, last_norm: bool = False, last_bias: bool = True) -> nn.Sequential:
    """Build linear layers with batch norm and ReLU between them: ``mlp(in, hidden, out)``.

    Linear layers followed by a batch norm have no bias. ``last_norm`` adds a batch norm without
    scale and shift after the last layer; ``last_bias=False`` is for losses that a constant offset
    does not change.
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


class MapToVector(nn.Module):
    """Linear layer from feature maps (n, d, gh, gw) to vectors (n, dim); resizes other maps."""

    def __init__(self, map_shape: tuple[int, int, int], dim: int):
        super().__init__()
        width, *self.grid = map_shape
        self.linear = nn.Linear(width * math.prod(self.grid), dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(resize_map(features, self.grid).flatten(1))


def resize_images(images: Tensor, size: Sequence[int] | None) -> Tensor:
    """Resize images (n, c, h, w) to this height and width; None leaves them as they are."""
    if size is None or tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def resize_map(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Resize feature maps to ``(n, d, *grid)``, by averaging or repeating values."""
    if list(features.shape[2:]) == list(grid):
        return features
    rows, columns = grid
    return F.adaptive_avg_pool2d(features, (rows, columns))


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position, so statistics of later rows cannot leak."""

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

    def forward(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = z + block(z)
        return F.relu(z)


class ConvDiscriminator(nn.Module):
    """Discriminator of real and generated images, and vectors if ``vector_dim``; returns logits."""

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

    def forward(self, images: Tensor, vectors: Tensor | None = None) -> Tensor:
        features = self.stages(images).mean((2, 3))
        if vectors is not None:
            features = torch.cat([features, vectors.to(features.dtype)], dim=1)
        return self.head(features)[:, 0]


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """Call ``module(*inputs)`` with gradients for the inputs, but none for the module.

    This lets one loss train both players of an adversarial game.
    """
    held = {name: p.detach() for name, p in module.named_parameters()}
    return functional_call(module, held, inputs)
