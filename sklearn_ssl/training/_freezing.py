"""Parts of an encoder that are held, or learn more slowly, while the rest is trained."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sklearn_ssl._utils._device import evaluation

__all__ = ["held", "lr_scales"]


def layer_of_parameters(encoder: Any) -> dict[nn.Parameter, int]:
    """For each parameter of an encoder, which of its layers needs it first."""
    parameters = list(encoder.parameters())
    trained = [p.requires_grad for p in parameters]
    device = next(iter(parameters)).device
    height, width, channels = encoder.image_shape
    blank = torch.zeros(1, channels, height, width, device=device)
    found: dict[nn.Parameter, int] = {}
    try:
        encoder.requires_grad_(True)
        with evaluation(encoder), torch.enable_grad():
            for row, layer in enumerate(encoder.layers):
                left = [p for p in parameters if p not in found]
                if not left:
                    break
                out = encoder.maps(blank, layer)[0].sum()
                gradients = torch.autograd.grad(out, left, allow_unused=True)
                needed = (p for p, g in zip(left, gradients, strict=True) if g is not None)
                found |= dict.fromkeys(needed, row)
    finally:
        for parameter, was in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was)
    last = len(encoder.layers) - 1
    return {p: found.get(p, last) for p in parameters}


def lr_scales(encoder: Any, layer_decay: float) -> dict[nn.Parameter, float]:
    """Factors of the learning rate for the parameters of an encoder."""
    if layer_decay == 1:
        return {}
    n_layers = len(encoder.layers)
    return {p: layer_decay ** (n_layers - row) for p, row in layer_of_parameters(encoder).items()}


@contextlib.contextmanager
def held(encoder: Any, trainable_layers: int | None) -> Iterator[None]:
    """All but the last layers stay as they are, with the statistics of their batch norms."""
    layers = {} if trainable_layers is None else layer_of_parameters(encoder)
    first = len(encoder.layers) - (trainable_layers or 0)
    kept = {p for p, row in layers.items() if row < first}
    trained = [p for p in kept if p.requires_grad]
    norms = [
        part
        for part in encoder.modules()
        if isinstance(part, _BatchNorm) and part.training and part.weight in kept
    ]
    for parameter in trained:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.train()
