"""Networks for ``encoder=``: our own, those of a library, or of a user's class or function."""

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.encoders._encoder import BackboneEncoder
from sklearn_ssl.encoders._timm import build_timm, expected_by_timm, is_model_of_timm
from sklearn_ssl.encoders._torchvision import (
    build_torchvision,
    expected_by_torchvision,
    torchvision_name,
    torchvision_names,
)
from sklearn_ssl.encoders._weights import Expected, is_file, load_weights


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and n_in == n_out
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class Stem(nn.Module):
    """First convolution of a ResNet, with kernel and stride chosen by image size.

    Below 64 pixels: 3x3, stride 1, as in the CIFAR experiments of He et al. (2016) and Chen et al.
    (2020). Below 128: 7x7, stride 2. From 128 on: the ImageNet stem, with max pooling.
    """

    def __init__(self, channels: int, width: int, image_size: tuple[int, int]):
        super().__init__()
        side = max(image_size)
        kernel, stride = (3, 1) if side < 64 else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if side >= 128 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


class SmallResNet(nn.Sequential):
    """ResNet with one block per stage: 32, 64, 128, 256 channels, 1.2 million parameters."""

    def __init__(self, channels: int, image_size: tuple[int, int], width: int = 32):
        super().__init__()
        self.stem = Stem(channels, width, image_size)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for i in range(4):
            self.add_module(
                f"layer{i + 1}", _BasicBlock(widths[i], widths[i + 1], stride=1 if i == 0 else 2)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _PatchStem(nn.Module):
    """Convolution of 2x2 patches below 64 pixels, of 4x4 below 128, of 8x8 from there on.

    Patches overlap by half, and there is one for each position at the resulting resolution.
    """

    def __init__(self, channels: int, width: int, image_size: tuple[int, int]):
        super().__init__()
        side = max(image_size)
        stride = 1 if side < 64 else 2 if side < 128 else 4
        self.pad = nn.ZeroPad2d((0, stride, 0, stride))
        self.conv = nn.Conv2d(channels, width, 2 * stride, stride, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.bn(self.conv(self.pad(x))))


class _ConvBlock(nn.Module):
    """Two 3x3 convolutions that start as identities, the first followed by max pooling."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, 1, 1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.bn1(self.pool(self.conv1(x))))
        return F.gelu(self.bn2(self.conv2(x)))


class SmallConvNet(nn.Sequential):
    """Three blocks of two convolutions after a stem of small patches, for fast training.

    The blocks are those of Jordan (2024), 94% on CIFAR-10 in 3.29 Seconds on a Single GPU: no
    shortcuts, but convolutions that start as identities, and pooling early in each block, so that
    few operations are at full resolution. With 32, 128 and 128 channels it has 0.5 million
    parameters, and trains about three times as fast as :class:`SmallResNet`.
    """

    def __init__(
        self, channels: int, image_size: tuple[int, int], widths: Sequence[int] = (32, 128, 128)
    ):
        super().__init__()
        self.stem = _PatchStem(channels, 24, image_size)
        for i, (n_in, n_out) in enumerate(pairwise((24, *widths))):
            self.add_module(f"layer{i + 1}", _ConvBlock(n_in, n_out))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: self-attention, then two linear layers, each with a shortcut.

    Attention is written out: for the few tokens of small images, torch's fused attention (2.14)
    is several times slower on a CPU with bfloat16, and its gradients on a GPU differ between runs.
    Weights are initialized as in He et al. (2022).

    Parameters
    ----------
    width : int
        Dimension of the tokens, a multiple of ``heads``.
    heads : int
        Number of attention heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (n, heads, tokens, tokens)
        weights = scores.softmax(3, dtype=torch.float32).to(v.dtype)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (n, t, width) to tokens of the same shape."""
        x = x + self._attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class _PatchEmbedding(nn.Module):
    """Embedding of disjoint patches as tokens (n, gh * gw, d), with 2-D sine-cosine positions."""

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        _, width, rows, columns = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        return tokens + sincos_positions(width, rows, columns, x.device)


def sincos_positions(
    width: int, rows: int, columns: int, device: torch.device | str | None = None
) -> Tensor:
    """Compute position encodings (rows * columns, width): half for rows, half for columns."""
    frequency = torch.arange(width // 4, device=device) / (width / 4)
    frequency = torch.exp(-math.log(10_000) * frequency)
    codes = []
    for n in (rows, columns):
        angle = torch.arange(n, device=device)[:, None] * frequency
        codes.append(torch.cat([angle.sin(), angle.cos()], dim=1))
    row = codes[0][:, None].expand(rows, columns, -1)
    column = codes[1][None].expand(rows, columns, -1)
    return torch.cat([row, column], dim=2).flatten(0, 1)


class SmallViT(nn.Sequential):
    """Vision transformer (Dosovitskiy et al. 2021): 6 blocks, width 192, 3 heads, no class token.

    Patches are an eighth of the shorter image side, between 2 and 16 pixels. Later images may have
    any size that holds a patch.
    """

    def __init__(self, channels: int, image_size: tuple[int, int]):
        super().__init__()
        width = 192
        patch_size = min(max(min(image_size) // 8, 2), 16, min(image_size))
        self.patch_embedding = _PatchEmbedding(channels, width, patch_size)
        for i in range(6):
            self.add_module(f"block{i}", TransformerBlock(width, heads=3))
        self.norm = nn.LayerNorm(width)
        self.num_prefix_tokens = 0  # timm's name for the number of class tokens


_OWN: dict[str, Callable[..., nn.Module]] = {
    "small_resnet": SmallResNet,
    "small_convnet": SmallConvNet,
    "wide_convnet": partial(SmallConvNet, widths=(64, 256, 256)),
    "small_vit": SmallViT,
}


def encoder_names() -> list[str]:
    """Return the names that ``encoder=`` accepts, besides ``timm/NAME``."""
    return [*_OWN, *torchvision_names()]


def make_encoder(
    encoder: str | Callable,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    weights: str | os.PathLike | None = None,
    norm: str = "batch",
    input_size: str | int | Sequence[int] | None = None,
    normalization: str | Sequence[Sequence[float]] = "auto",
    filled: bool = True,
) -> BackboneEncoder:
    """Build an encoder from a name, class or factory.

    Parameters
    ----------
    encoder, weights, input_size, normalization
        As for learners.
    image_shape : tuple of int
        Height, width and channels.
    mean, std : sequence of float
        Mean and standard deviation of each channel, for images in [0, 1].
    norm : {"batch", "layer"}, default="batch"
        ``"layer"`` replaces every 2-D batch norm with a layer norm over channels and positions.
    filled : bool, default=True
        Load ``weights``. If False, weights are to be restored into the encoder later.

    Raises
    ------
    TypeError
        If ``encoder`` is a module instance, which cannot be cloned.
    ValueError
        If the name is unknown, or has no such weights.
    """
    channels = image_shape[2]
    try:
        expected = _expected(encoder, weights)
        size = size_for(image_shape[:2], input_size, expected)
        backbone = _build_backbone(encoder, (*size, channels), weights, filled)
        if norm == "layer":
            _batch_to_layer_norm(backbone)
        if normalization == "auto" and expected is not None:
            mean, std = expected.normalization(channels)
        elif not isinstance(normalization, str):
            mean, std = _given_for(normalization, channels)
        return BackboneEncoder(backbone, image_shape, mean, std, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        said = any(start in str(error) for start in (f"encoder={encoder!r}", "weights="))
        if said or not isinstance(encoder, str):
            raise
        height, width, channels = image_shape
        raise ValueError(
            f"encoder={encoder!r} with weights={weights!r} cannot be used for images of {height} x "
            f"{width} pixels and {channels} channels: {str(error) or type(error).__name__}"
        ) from error


def _expected(encoder: str | Callable, weights: str | os.PathLike | None) -> Expected | None:
    """Return the image properties that weights expect, or None if no library defines them."""
    if weights is None or not isinstance(encoder, str):
        return None
    if encoder.startswith("timm/") and find_spec("timm"):
        with contextlib.suppress(RuntimeError):  # unknown to timm: reported later
            return expected_by_timm(encoder.removeprefix("timm/"))
    return expected_by_torchvision(encoder, weights) if encoder in torchvision_names() else None


def size_for(
    size: tuple[int, int],
    input_size: str | int | Sequence[int] | None,
    expected: Expected | None = None,
) -> tuple[int, int]:
    """Return the size to which images are resized for the network."""
    if input_size is None or (input_size == "auto" and expected is None):
        return size
    shorter = min(size)
    if input_size == "auto" and expected is not None:
        if expected.fixed_size:
            return expected.size
        input_size = max(shorter, min(expected.size))
    if isinstance(input_size, int):
        height, width = (max(1, round(side * input_size / shorter)) for side in size)
        return height, width
    sides = [side for side in input_size if isinstance(side, int) and side > 0]
    if len(input_size) != 2 or len(sides) != 2:
        raise ValueError(f"input_size={input_size!r} must be 'auto', an int, or (height, width)")
    return sides[0], sides[1]


def _given_for(
    normalization: Sequence[Sequence[float]], channels: int
) -> tuple[list[float], list[float]]:
    """Check a given mean and standard deviation of each channel, and return them as lists."""
    try:
        mean, std = (list(map(float, values)) for values in normalization)
    except (TypeError, ValueError):
        mean, std = [], []
    if {len(mean), len(std)} != {channels} or not all(map(math.isfinite, mean)) or min(std) <= 0:
        raise ValueError(
            f"normalization={normalization!r} must be 'auto', 'images', or a mean and a positive "
            f"standard deviation for each of {channels} channels, of images in [0, 1]"
        )
    return mean, std


def _build_backbone(
    encoder: str | Callable,
    image_shape: tuple[int, int, int],
    weights: str | os.PathLike | None,
    filled: bool,
) -> nn.Module:
    height, width, channels = image_shape
    if isinstance(encoder, nn.Module):
        raise TypeError(
            f"encoder is an instance of {type(encoder).__name__}; pass the class itself or a "
            "function that builds it, so that clones of the learner start from fresh weights. To "
            "start from the weights that it has, pass encoder=lambda: copy.deepcopy(module); to "
            "use it as it is, give it to PretrainedEncoder"
        )
    if isinstance(encoder, str) and encoder not in _OWN:
        if encoder.startswith("timm/"):
            name = encoder.removeprefix("timm/")
            return build_timm(name, channels, (height, width), weights, filled)
        if encoder in torchvision_names():
            return build_torchvision(encoder, channels, (height, width), weights, filled)
        hint = did_you_mean(encoder, encoder_names())
        if is_model_of_timm(encoder):
            hint = f" Did you mean timm's, encoder='timm/{encoder}'?"
        raise ValueError(
            f"encoder={encoder!r} is unknown.{hint} Give 'small_resnet', 'small_convnet', "
            "'wide_convnet', 'small_vit', the name of a torchvision classification model, "
            "'timm/NAME' for a timm model, a class, or a function that builds a module; "
            "sklearn_ssl.encoders.encoder_names() lists the names"
        )
    if weights is not None and not is_file(weights):
        raise ValueError(
            f"weights={weights!r}: there are none for encoder={encoder!r}; use None or a file"
        )
    backbone = _build_own(encoder, image_shape)
    if weights is not None and filled:
        load_weights(backbone, weights)
    return backbone


def _build_own(encoder: str | Callable, image_shape: tuple[int, int, int]) -> nn.Module:
    """Build one of our own networks, or one from the user's class or function."""
    height, width, channels = image_shape
    if isinstance(encoder, str):
        return _OWN[encoder](channels, (height, width))
    offered = {"in_channels": channels, "image_shape": image_shape}
    accepted = inspect.signature(encoder).parameters
    given = {name: value for name, value in offered.items() if name in accepted}
    try:
        backbone = encoder(**given)
    except TypeError as error:
        how = ", ".join(given) or "no arguments"
        raise TypeError(f"encoder={encoder!r} cannot be called with {how}: {error}") from error
    if not isinstance(backbone, nn.Module):
        raise TypeError(f"encoder={encoder!r} built a {type(backbone).__name__}, not a module")
    return backbone


def _batch_to_layer_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = nn.GroupNorm(1, child.num_features)
            activation = getattr(child, "act", None)  # timm's norms may include one
            setattr(module, name, nn.Sequential(norm, activation) if activation else norm)
        else:
            _batch_to_layer_norm(child)


def import_library(encoder: Any) -> None:
    """Import the library that provides an encoder, if it is installed."""
    if isinstance(encoder, str) and encoder not in _OWN:
        name = "timm" if encoder.startswith("timm/") else "torchvision.models"
        if find_spec(name.partition(".")[0]):
            import_module(name)


def original_names(encoder: str | Callable, state: dict[str, Any]) -> dict[str, Any]:
    """Return a backbone's parameters and buffers under the names in its library."""
    if encoder not in torchvision_names():
        return state
    return {torchvision_name(name): value for name, value in state.items()}
