"""Construction of the encoder that ``encoder=`` stands for: a name, a class, or a function."""

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.encoders._encoder import BackboneEncoder
from sklearn_ssl.encoders._resnet import SmallResNet
from sklearn_ssl.encoders._timm import build_timm, expected_by_timm, is_model_of_timm
from sklearn_ssl.encoders._torchvision import (
    build_torchvision,
    expected_by_torchvision,
    torchvision_name,
    torchvision_names,
)
from sklearn_ssl.encoders._vit import SmallViT
from sklearn_ssl.encoders._weights import Expected, is_file, load_weights

__all__ = ["encoder_names", "make_encoder", "original_names", "size_for"]


_OWN = {"small_resnet": SmallResNet, "small_vit": SmallViT}


def encoder_names() -> list[str]:
    """Return the names that ``encoder=`` takes, besides ``timm/NAME``."""
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
    """Build the encoder that a name, class or factory stands for.

    Parameters
    ----------
    encoder, weights, input_size, normalization
        As the arguments of the learners.
    image_shape : tuple of int
        Height, width and channels.
    mean, std : sequence of float
        Per channel, of images in [0, 1].
    norm : {"batch", "layer"}, default="batch"
        ``"layer"`` replaces every 2-D batch norm by a layer norm over channels and positions.
    filled : bool, default=True
        Whether weights are read. If not, the encoder is the one to restore them into.

    Raises
    ------
    TypeError
        For a module instance, which could not be cloned.
    ValueError
        For a name that is unknown, or weights where there are none.
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
    """Return what weights expect of images, where a library says so, or None."""
    if weights is None or not isinstance(encoder, str):
        return None
    if encoder.startswith("timm/") and find_spec("timm"):
        with contextlib.suppress(RuntimeError):  # unknown to timm, which is said later
            return expected_by_timm(encoder.removeprefix("timm/"))
    return expected_by_torchvision(encoder, weights) if encoder in torchvision_names() else None


def size_for(
    size: tuple[int, int],
    input_size: str | int | Sequence[int] | None,
    expected: Expected | None = None,
) -> tuple[int, int]:
    """Return the size to which images of a size are resized."""
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
    """Check the given mean and standard deviation of each channel, and return them as lists."""
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
            "function that builds it, so that clones of the learner start from fresh weights"
        )
    if isinstance(encoder, str) and encoder not in _OWN:
        if encoder.startswith("timm/"):
            name = encoder.removeprefix("timm/")
            return build_timm(name, channels, (height, width), weights, filled)
        if encoder in torchvision_names():
            return build_torchvision(encoder, channels, (height, width), weights, filled)
        raise ValueError(
            f"encoder={encoder!r} is unknown.{_meant(encoder)} Give 'small_resnet', 'small_vit', "
            "the name of a torchvision classification model, 'timm/NAME' for a model of timm, a "
            "class, or a function that builds a module; "
            "sklearn_ssl.encoders.encoder_names() lists the names"
        )
    if weights is not None and not is_file(weights):
        raise ValueError(
            f"weights={weights!r}: there are none for encoder={encoder!r}, only None or a file"
        )
    backbone = _build_own(encoder, image_shape)
    if weights is not None and filled:
        load_weights(backbone, weights)
    return backbone


def _meant(name: str) -> str:
    """Return a sentence that says which encoder an unknown name may stand for."""
    if is_model_of_timm(name):
        return f" Did you mean timm's, encoder='timm/{name}'?"
    return did_you_mean(name, encoder_names())


def _build_own(encoder: str | Callable, image_shape: tuple[int, int, int]) -> nn.Module:
    """Build one of our networks, or one of the user's."""
    height, width, channels = image_shape
    if isinstance(encoder, str):
        return _OWN[encoder](channels, (height, width))
    offered = {"in_channels": channels, "image_shape": image_shape}
    accepted = inspect.signature(encoder).parameters
    backbone = encoder(**{k: v for k, v in offered.items() if k in accepted})
    if not isinstance(backbone, nn.Module):
        raise TypeError(f"encoder={encoder!r} built a {type(backbone).__name__}, not a module")
    return backbone


def _batch_to_layer_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = nn.GroupNorm(1, child.num_features)
            activation = getattr(child, "act", None)  # timm's norms bring one
            setattr(module, name, nn.Sequential(norm, activation) if activation else norm)
        else:
            _batch_to_layer_norm(child)


def import_library(encoder: Any) -> None:
    """Import the library that an encoder of this name is from, if it is there."""
    if isinstance(encoder, str) and encoder not in _OWN:
        name = "timm" if encoder.startswith("timm/") else "torchvision.models"
        if find_spec(name.partition(".")[0]):
            import_module(name)


def original_names(encoder: str | Callable, state: dict[str, Any]) -> dict[str, Any]:
    """Return parameters and buffers of a backbone, named as in the library it is from."""
    if encoder not in torchvision_names():
        return state
    return {torchvision_name(name): value for name, value in state.items()}
