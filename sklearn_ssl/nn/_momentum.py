"""EMA copies of a network, and queues of its outputs."""

import copy
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sklearn_ssl.nn._losses import gather


class MomentumCopy(nn.Module):
    """EMA copy of a module, without gradients.

    In training mode, its norms use batch statistics, like those of the module. Everything else
    stays in evaluation mode: the outputs are targets, which dropout or stochastic depth would only
    blur.

    Parameters
    ----------
    module : nn.Module
        Module to copy; the copy is available as ``.module``.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module: Any = copy.deepcopy(module).requires_grad_(False)
        self.train(module.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of the norms only."""
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
        """Update the EMA: copy = momentum * copy + (1 - momentum) * module."""
        parameters = list(self.module.parameters()), list(module.parameters())
        get_ema_multi_avg_fn(momentum)(*parameters, None)


class Queue(nn.Module):
    """First-in, first-out queue of the latest vectors; random unit vectors until it is full.

    Parameters
    ----------
    size, dim : int
        Number and dimension of the vectors.
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
        """Reset the queue to random unit vectors."""
        self.vectors.copy_(F.normalize(torch.randn_like(self.vectors), dim=1))
        self.pushed.zero_()

    @property
    def full(self) -> Tensor:
        """Return whether all random vectors have been replaced: a bool scalar on the device."""
        return self.pushed >= len(self.vectors)

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        """Replace the oldest vectors with the ``new`` ones (n, dim) of all processes."""
        size = len(self.vectors)
        new = gather(new)[-size:]
        rows = (self.pushed + torch.arange(len(new), device=new.device)) % size
        self.vectors[rows] = new.float()
        self.pushed += len(new)
