"""Lightness and color of images, bins for both, and an encoder that sees them separately."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sklearn_ssl._utils._torch import constants, full_precision
from sklearn_ssl.encoders import Encoder
from sklearn_ssl.nn import gather

# sRGB to CIE XYZ relative to the white point D65, so rows sum to one
_XYZ = (
    (0.4338888, 0.3762134, 0.1898978),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0177253, 0.1094688, 0.8728060),
)
_RGB = tuple(map(tuple, np.linalg.inv(_XYZ).tolist()))
_AB_SCALE = 110.0  # the largest a* and b* of sRGB colors
_COUNTED = 2**14  # values of a batch from which bin frequencies are counted
_AT_ONCE = 2**15  # values compared with all bins at a time
_LEAST_UNIFORM = 0.01  # least uniform share in bin weights: unseen bins would weigh too much
_AB_SPACING = 10.0  # spacing of the color grid, as in Zhang et al. (2016)


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return constants([value for row in rows for value in row], like).view(3, 3)


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    with full_precision(images.device):
        return torch.einsum("rc,nchw->nrhw", matrix, images)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB images (n, 3, h, w) in [0, 1] to CIE L*a*b* under D65: L in [0, 100]."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).pow(2.4), images / 12.92)
    xyz = _mix(_matrix(_XYZ, images), linear)
    f = torch.where(
        xyz > 216 / 24389, xyz.clamp(min=1e-6).pow(1 / 3), (xyz * 24389 / 27 + 16) / 116
    )
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Invert :func:`rgb_to_lab`; colors outside sRGB are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f > 6 / 29, f.pow(3), (116 * f - 16) * 27 / 24389)
    linear = _mix(_matrix(_RGB, lab), xyz).clamp(0, 1)
    curved = 1.055 * linear.clamp(min=1e-6).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0, 1)


def split_color(images: Tensor) -> tuple[Tensor, Tensor]:
    """Split images into lightness (n, 1, h, w) in [0, 1] and color (n, d, h, w) in about [-1, 1].

    For RGB images, lightness is L* and color is a*, b*. For other numbers of channels, lightness is
    the channel mean, and color the differences of the channels from it. Images of one channel have
    no color: a coarse version serves as lightness, and the missing detail as color.
    """
    channels = images.shape[1]
    if channels == 3:
        lab = rgb_to_lab(images)
        return lab[:, :1] / 100, lab[:, 1:] / _AB_SCALE
    light = images.mean(1, keepdim=True)
    if channels == 1:
        size = [max(1, side // 2) for side in images.shape[2:]]
        light = F.interpolate(images, size, mode="bilinear", antialias=True)
        light = F.interpolate(light, images.shape[2:], mode="bilinear")
    return light, images - light


def join_color(lightness: Tensor, color: Tensor, channels: int) -> Tensor:
    """Invert :func:`split_color` for images of ``channels``, and clip to [0, 1]."""
    if channels == 3:
        return lab_to_rgb(torch.cat([100 * lightness, _AB_SCALE * color], dim=1))
    return (lightness + color).clamp(0, 1)


def half(images: Tensor) -> tuple[int, int]:
    """Return height and width at half the resolution, at which colors are predicted."""
    height, width = (-(-side // 2) for side in images.shape[2:])
    return height, width


def _color_centers(channels: int) -> Tensor:
    """Return bin centers (q, k): a grid over a*, b* of sRGB, or over a channel's difference."""
    if channels != 3:
        return torch.linspace(-1, 1, 21)[:, None]
    steps = torch.linspace(0, 1, 33)
    rgb = torch.cartesian_prod(steps, steps, steps)[:, :, None, None]
    ab = rgb_to_lab(rgb)[:, 1:, 0, 0]
    return (ab / _AB_SPACING).round().unique(dim=0) * _AB_SPACING / _AB_SCALE


class Bins(nn.Module):
    """Classification of quantized values: soft targets, weights for rare bins, and decoding.

    Parameters
    ----------
    centers : Tensor of shape (q, k)
        Centers of the bins of k-dimensional values.
    groups : int
        Number of values per position.
    rebalance : float
        Weighting of bins: 1 is by inverse frequency, 0 uniform. It is the paper's 1 - lambda, with
        lambda at least 0.01.

    References
    ----------
    Zhang, Isola and Efros (2016), Colorful Image Colorization, section 2.2.
    """

    centers: Tensor
    share: Tensor

    def __init__(self, centers: Tensor, groups: int, rebalance: float = 0.5):
        super().__init__()
        self.groups = groups
        self.rebalance = rebalance
        self.spacing = torch.pdist(centers).min().item()
        self.register_buffer("centers", centers)
        self.register_buffer("share", torch.full((len(centers),), 1 / len(centers)))

    @classmethod
    def of_lightness(cls) -> "Bins":
        return cls(torch.linspace(0, 1, 50)[:, None], groups=1)

    @classmethod
    def of_color(cls, channels: int, rebalance: float = 0.5) -> "Bins":
        groups = 1 if channels == 3 else channels
        return cls(_color_centers(channels), groups, rebalance)

    @property
    def n_logits(self) -> int:
        """Number of channels of the map that predicts the bins."""
        return self.groups * len(self.centers)

    def _rows(self, maps: Tensor, length: int) -> Tensor:
        """Reshape (n, groups * length, h, w) to (n * groups * h * w, length)."""
        return maps.unflatten(1, (self.groups, length)).movedim(2, -1).flatten(0, -2)

    def soften(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the five bins nearest to values (m, k) and weights, nearest first: both (m, 5)."""
        k = min(5, len(self.centers))
        parts = [
            torch.cdist(some, self.centers).topk(k, largest=False)  # (_AT_ONCE, q) distances
            for some in values.split(_AT_ONCE)
        ]
        distance, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
        return nearest, F.softmax(-0.5 * (distance / (self.spacing / 2)).square(), dim=1)

    def forward(self, logits: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the weighted cross entropy of logits (n, n_logits, h, w) and a map of values.

        Also return the frequencies of the bins among the values.
        """
        nearest, near = self.soften(self._rows(values.float(), self.centers.shape[1]))
        some = slice(None, None, -(-len(nearest) // _COUNTED))
        seen = (
            torch.zeros(nearest[some].shape[0], len(self.centers), device=near.device)
            .scatter(1, nearest[some], near[some])
            .mean(0)
        )
        uniform = max(1 - self.rebalance, _LEAST_UNIFORM) / len(self.share)
        rarity = 1 / (self.rebalance * self.share + uniform)
        weight = (rarity / (self.share * rarity).sum())[nearest[:, 0]]
        # a few images at a time, recomputed for the gradient: softmaxes of all bins at all
        # positions would take most of the memory
        rows = len(nearest) // len(logits)
        step = max(1, _AT_ONCE // rows)
        targets = (target.split(step * rows) for target in (nearest, weight[:, None] * near))
        losses = [
            checkpoint(self._cross_entropy, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(logits.split(step), *targets, strict=True)
        ]
        return torch.stack(losses).sum() / len(nearest), gather(seen[None]).mean(0)

    def _cross_entropy(self, logits: Tensor, nearest: Tensor, shares: Tensor) -> Tensor:
        log_p = F.log_softmax(self._rows(logits.float(), len(self.centers)), dim=1)
        return -(shares * log_p.gather(1, nearest)).sum()

    @torch.no_grad()
    def update(self, seen: Tensor) -> None:
        """Update the running frequencies of the bins with those of a batch."""
        self.share.lerp_(seen, 0.01)

    def values(self, logits: Tensor, temperature: float = 0.38) -> Tensor:
        """Compute the annealed mean of the predicted bins, (n, groups * k, h, w)."""
        n, _, h, w = logits.shape
        p = F.softmax(self._rows(logits.float(), len(self.centers)) / temperature, dim=1)
        with full_precision(logits.device):
            values = (p @ self.centers).view(n, self.groups, h, w, -1)
        return values.movedim(-1, 2).flatten(1, 2)


class ColorEncoder(Encoder):
    """Encoder of lightness and, if given, of color, with stacked feature maps."""

    def __init__(self, image_shape: tuple[int, int, int], **parts: Encoder):
        super().__init__()
        self.image_shape = image_shape
        self.parts: Any = nn.ModuleDict(parts)
        first = next(iter(parts.values()))
        self.default_layer = first.default_layer
        self.layers = {
            name: (len(parts) * d, rows, columns)
            for name, (d, rows, columns) in first.layers.items()
        }

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute stacked maps of the parts, for several layers in one pass."""
        seen = dict(zip(("lightness", "color"), split_color(images), strict=True))
        maps = [encoder.maps(seen[name], *layers) for name, encoder in self.parts.items()]
        return [torch.cat(parts, dim=1) for parts in zip(*maps, strict=True)]
