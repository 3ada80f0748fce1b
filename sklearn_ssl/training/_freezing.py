"""Parts of an encoder that are held, or learn more slowly, while the rest is trained."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sklearn_ssl._utils._device import evaluation
from sklearn_ssl.nn import MomentumCopy

__all__ = ["held", "lr_scales"]


def layer_of_parameters(encoder: Any) -> tuple[dict[nn.Parameter, int], int]:
    """Return the number of the first layer that needs each parameter, and the number of layers.

    Of layers within layers the outer ones count, where they have parameters.
    """
    parameters = list(encoder.parameters())
    trained = [p.requires_grad for p in parameters]
    height, width, channels = encoder.image_shape
    blank = torch.zeros(1, channels, height, width, device=parameters[0].device)
    found: dict[nn.Parameter, int] = {}
    n_layers = 0
    try:
        encoder.requires_grad_(True)
        with evaluation(encoder), torch.enable_grad():
            for layer in encoder.layers:
                if any(layer.startswith(f"{outer}.") for outer in encoder.layers):
                    continue
                left = [p for p in parameters if p not in found]
                out = encoder.maps(blank, layer)[0].sum()
                gradients = torch.autograd.grad(out, left, allow_unused=True) if left else ()
                needed = [p for p, g in zip(left, gradients, strict=False) if g is not None]
                found |= dict.fromkeys(needed, n_layers)
                n_layers += bool(needed)
    finally:
        for parameter, was in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was)
    return {p: found.get(p, n_layers - 1) for p in parameters}, n_layers


def lr_scales(encoder: Any, layer_decay: float) -> dict[nn.Parameter, float]:
    """Return factors of the learning rate for the parameters of an encoder."""
    if layer_decay == 1:
        return {}
    layers, n_layers = layer_of_parameters(encoder)
    return {p: layer_decay ** (n_layers - row) for p, row in layers.items()}


@contextlib.contextmanager
def held(task: Any, trainable_layers: int | None, batch_norm: bool = False) -> Iterator[None]:
    """Hold all but the encoder's last layers as they are, with the statistics of their batch norms.

    With ``batch_norm``, the statistics of all other batch norms are held, too. In momentum copies
    of the encoder the same norms are held: a target is made with the statistics that its prediction
    is made with. Norms stay in evaluation mode until all parts are put into training mode again.
    """
    encoder, kept = task.encoder, set()
    if trainable_layers is not None:
        layers, n_layers = layer_of_parameters(encoder)
        kept = {p for p, row in layers.items() if row < n_layers - trainable_layers}
    trained = [p for p in kept if p.requires_grad]
    norms = [
        name
        for name, part in encoder.named_modules()
        if isinstance(part, _BatchNorm) and (batch_norm or part.weight in kept)
    ]
    copies = [part.module for part in task.modules() if isinstance(part, MomentumCopy)]
    for network in (encoder, *(copy for copy in copies if type(copy) is type(encoder))):
        for name in norms:
            network.get_submodule(name).eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
