"""Optimizers by name, and schedules.

Schedules are functions of progress, the fraction of training steps done (0 to 1).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn


class LARS(torch.optim.Optimizer):
    """SGD with momentum and steps scaled, layer by layer, by the norm of the weights.

    As usual in self-supervised learning, the scale is computed from the gradient plus weight
    decay, and the learning rate is applied after the momentum.

    Parameters
    ----------
    params : iterable
        Parameters or groups. Groups with ``decays=False`` (biases, norms) are neither decayed nor
        scaled, as in the self-supervised literature.
    lr : float
    momentum : float, default=0.9
    weight_decay : float, default=0.0
    trust_coefficient : float, default=0.02
        The paper's eta.

    References
    ----------
    You et al. (2017), Large Batch Training of Convolutional Networks, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.02,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "decays": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                gradient = p.grad
                if group["decays"]:
                    gradient = gradient.add(p, alpha=group["weight_decay"])
                    weight_norm, gradient_norm = p.norm(), gradient.norm()
                    trust = group["trust_coefficient"] * weight_norm / gradient_norm
                    usable = (weight_norm > 0) & (gradient_norm > 0)
                    gradient = gradient * trust.masked_fill(~usable, 1.0)
                velocity = self.state[p].get("velocity")
                if velocity is None:
                    velocity = self.state[p]["velocity"] = torch.zeros_like(p)
                velocity.mul_(group["momentum"]).add_(gradient)
                p.add_(velocity, alpha=-group["lr"])
        return loss


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "lars": LARS,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
}


def make_optimizer(
    optimizer: str | Callable[..., torch.optim.Optimizer],
    groups: list[dict],
    lr: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Build an optimizer from its name, or from a class or function.

    Raises
    ------
    TypeError, ValueError
        If it does not accept parameter groups, ``lr`` and ``weight_decay``, or is no optimizer.
    """
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    try:
        made = make(groups, lr=lr, weight_decay=weight_decay)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"optimizer={optimizer!r} must accept groups of parameters, lr and "
            f"weight_decay: {error}"
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} built a {type(made).__name__}, not an optimizer")
    return made


def parameter_groups(
    module: nn.Module, weight_decay: float, scales: Mapping[nn.Parameter, float] | None = None
) -> list[dict]:
    """Group parameters by weight decay (weights, but not biases or norms) and learning rate scale.

    Frozen parameters are included: they may be unfrozen later, and optimizers skip them until then.
    """
    scales = scales or {}
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for decays in (True, False):
        for p in module.parameters():
            if (p.ndim > 1) == decays:
                groups.setdefault((decays, scales.get(p, 1.0)), []).append(p)
    return [
        {
            "params": ps,
            "weight_decay": weight_decay if decays else 0.0,
            "decays": decays,
            "lr_scale": scale,
        }
        for (decays, scale), ps in groups.items()
    ]


def cosine(progress: float | None, start: float, end: float) -> float:
    """Interpolate from ``start`` to ``end`` along half a cosine; without progress, stay at start.

    Examples
    --------
    >>> from sklearn_ssl.nn import cosine
    >>> [round(cosine(p, 0.99, 1.0), 3) for p in (0.0, 0.5, 1.0)]
    [0.99, 0.995, 1.0]
    """
    if progress is None:
        return start
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_cosine(progress: float, warmup: float = 0.0) -> float:
    """Rise linearly to 1 over the fraction ``warmup``, then fall to 0 along half a cosine.

    Examples
    --------
    >>> from sklearn_ssl.nn import warmup_cosine
    >>> [round(warmup_cosine(p, warmup=0.2), 3) for p in (0.1, 0.2, 0.6, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if warmup and progress <= warmup:
        return progress / warmup
    return cosine((progress - warmup) / (1 - warmup), 1.0, 0.0)
