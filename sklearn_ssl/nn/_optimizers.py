"""Optimizers by name."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

__all__ = ["LARS", "OPTIMIZERS", "parameter_groups"]


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step is scaled, layer by layer, to the size of the weights.

    As usual in self-supervised learning, the scale is taken of gradient and weight decay together,
    and the learning rate acts behind the momentum.

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


def _adamw(params, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)


def _sgd(params, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, weight_decay=weight_decay, momentum=0.9, fused=True)


OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd, "lars": LARS}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Weights, which decay, and biases and norms, which do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[tuple[list[Tensor], float, bool]] = [
        ([p for p in trained if p.ndim > 1], weight_decay, True),
        ([p for p in trained if p.ndim <= 1], 0.0, False),
    ]
    return [
        {"params": ps, "weight_decay": decay, "decays": decays}
        for ps, decay, decays in groups
        if ps
    ]
