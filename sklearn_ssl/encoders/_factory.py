"""The encoder that ``encoder=`` stands for: a name, a class, or a function."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from sklearn_ssl.encoders._encoder import BackboneEncoder
from sklearn_ssl.encoders._resnet import SmallResNet
from sklearn_ssl.encoders._timm import build_timm
from sklearn_ssl.encoders._torchvision import (
    build_torchvision,
    torchvision_name,
    torchvision_names,
)
from sklearn_ssl.encoders._vit import SmallViT

__all__ = ["encoder_names", "make_encoder", "original_names"]


_OWN = {"small_resnet": SmallResNet, "small_vit": SmallViT}


def encoder_names() -> list[str]:
    """Names that ``encoder=`` takes, beside ``timm/NAME``."""
    return [*_OWN, *torchvision_names()]


def make_encoder(
    encoder: str | Callable,
    image_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    weights: str | None = None,
    norm: str = "batch",
) -> BackboneEncoder:
    """Build the encoder that a name, class or factory stands for.

    Parameters
    ----------
    encoder, weights
        As the arguments of the learners.
    image_shape : tuple of int
        Height, width and channels.
    mean, std : sequence of float
        Per channel, of images in [0, 1].
    norm : {"batch", "layer"}, default="batch"
        ``"layer"`` replaces every 2-D batch norm by a layer norm over channels and positions.

    Raises
    ------
    TypeError
        For a module instance, which could not be cloned.
    ValueError
        For a name that is unknown, or weights where there are none.
    """
    try:
        backbone = _build_backbone(encoder, image_shape, weights)
        if norm == "layer":
            _batch_to_layer_norm(backbone)
        return BackboneEncoder(backbone, image_shape, mean, std)
    except (RuntimeError, AssertionError, ValueError) as error:
        if not isinstance(encoder, str) or f"encoder={encoder!r}" in str(error):
            raise
        height, width, channels = image_shape
        raise ValueError(
            f"encoder={encoder!r} with weights={weights!r} cannot be used for images of {height} x "
            f"{width} pixels and {channels} channels: {str(error) or type(error).__name__}"
        ) from error


def _build_backbone(
    encoder: str | Callable, image_shape: tuple[int, int, int], weights: str | None
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
            return build_timm(name, channels, (height, width), weights)
        if encoder in torchvision_names():
            return build_torchvision(encoder, channels, (height, width), weights)
        raise ValueError(
            f"encoder={encoder!r} is unknown. Known are {', '.join(encoder_names())}, "
            "'timm/NAME' for a model of timm, a class, or a function that builds a module"
        )
    if weights is not None:
        raise ValueError(f"weights={weights!r}: there are none for encoder={encoder!r}, only None")
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


def original_names(encoder: str | Callable, state: dict[str, Any]) -> dict[str, Any]:
    """Parameters and buffers of a backbone under the names of the library it is from."""
    if encoder not in torchvision_names():
        return state
    return {torchvision_name(name): value for name, value in state.items()}
