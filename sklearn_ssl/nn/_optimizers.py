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


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices, for weights; AdamW for all else.

    Weights of convolutions are matrices with a row for each output channel. Steps are scaled so
    that their root mean square is that of AdamW. Biases, norms and single vectors, such as class
    tokens, are left to AdamW; unlike in Jordan et al., first and last layers are not.

    Parameters
    ----------
    params : iterable
        Parameters or groups.
    lr : float
    momentum : float, default=0.95
        Nesterov momentum of the steps that are made orthogonal.
    betas : (float, float), default=(0.9, 0.999)
        Those of AdamW.
    weight_decay : float, default=0.0

    References
    ----------
    Jordan et al. (2024), Muon: An Optimizer for Hidden Layers in Neural Networks,
    https://kellerjordan.github.io/posts/muon; Liu et al. (2025), Muon is Scalable for LLM Training,
    equation 4, https://arxiv.org/abs/2502.16982
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
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
                p.mul_(1 - group["lr"] * group["weight_decay"])
                is_matrix = p.ndim > 1 and len(p) > 1
                step = self._orthogonal if is_matrix else self._adam
                update = step(p, p.grad, group)
                p.add_(update, alpha=-group["lr"])
        return loss

    def _orthogonal(self, p: Tensor, gradient: Tensor, group: dict) -> Tensor:
        """Return the direction of a step of a matrix, or of a convolution's weights."""
        state = self.state[p]
        if not state:
            state["velocity"] = torch.zeros_like(p)
        velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(velocity, alpha=group["momentum"]).flatten(1)
        scale = 0.2 * max(direction.shape) ** 0.5
        return orthogonalized(direction).mul_(scale).to(p.dtype).view_as(p)

    def _adam(self, p: Tensor, gradient: Tensor, group: dict) -> Tensor:
        """Return the direction of a step of AdamW."""
        state, (first, second) = self.state[p], group["betas"]
        if not state:
            state |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "steps": 0}
        state["steps"] += 1
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["steps"])
        square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        return mean / ((square / (1 - second ** state["steps"])).sqrt() + 1e-8)


def orthogonalized(matrix: Tensor, n_iter: int = 5) -> Tensor:
    """Move the singular values of a matrix near 1, between 0.7 and 1.2, by Newton's iteration.

    It runs in bfloat16, as in Jordan et al. (2024), whose coefficients it uses.
    """
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = x.bfloat16()
    x = x / (x.norm() + 1e-7)  # no singular value is above 1
    for _ in range(n_iter):
        gram = x @ x.T
        polynomial = -4.7750 * gram + 2.0315 * (gram @ gram)
        x = 3.4445 * x + polynomial @ x
    return x if len(matrix) <= matrix.shape[1] else x.T


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "lars": LARS,
    "muon": Muon,
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
