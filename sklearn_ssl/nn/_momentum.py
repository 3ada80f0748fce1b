"""Slow companions of a network: averaged copies of it, and queues of its outputs."""

import copy
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["MomentumCopy", "Queue"]


class MomentumCopy(nn.Module):
    """A copy of a module that no gradient trains, and that follows it slowly.

    In training its norms take the statistics of the batch, as those of the module do. All else is
    as in evaluation: what it says is a target, which dropout or stochastic depth would only blur.

    Parameters
    ----------
    module : nn.Module
        What is copied; the copy is ``.module``, too.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module: Any = copy.deepcopy(module).requires_grad_(False)
        self.train(module.training)

    def train(self, mode: bool = True) -> Self:
        """Put the norms into training mode, and nothing else."""
        super().train(False)
        self.training = mode
        for part in self.modules():
            if isinstance(part, _NormBase):
                part.train(mode)
        return self

    def forward(self, *inputs: Any) -> Any:
        """Apply the copy to its inputs."""
        return self.module(*inputs)

    def update(self, module: nn.Module, momentum: float) -> None:
        """Update by an EMA: copy = momentum * copy + (1 - momentum) * module."""
        parameters = list(self.module.parameters()), list(module.parameters())
        get_ema_multi_avg_fn(momentum)(*parameters, None)


class Queue(nn.Module):
    """The latest vectors, first in, first out; random directions until it is full.

    Parameters
    ----------
    size, dim : int
        Number and length of the vectors.
    """

    vectors: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("vectors", torch.empty(size, dim))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Start anew, with random directions."""
        self.vectors.copy_(F.normalize(torch.randn_like(self.vectors), dim=1))
        self.pushed.zero_()

    @property
    def full(self) -> Tensor:
        """Return whether all random directions have been replaced: a bool scalar on the device."""
        return self.pushed >= len(self.vectors)

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        """Replace the oldest vectors by ``new`` (n, dim)."""
        size = len(self.vectors)
        new = new[-size:]
        rows = (self.pushed + torch.arange(len(new), device=new.device)) % size
        self.vectors[rows] = new.float()
        self.pushed += len(new)
