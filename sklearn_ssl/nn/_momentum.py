"""What moves slowly behind a network: averaged copies of it, and queues of its outputs."""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Queue", "ema_update", "momentum_copy"]


M = TypeVar("M", bound=nn.Module)


def momentum_copy(module: M) -> M:
    """A copy that no gradient trains; :func:`ema_update` moves it."""
    return copy.deepcopy(module).requires_grad_(False)


def ema_update(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move a copy towards its module: average = momentum * average + (1 - momentum) * module."""
    parameters = list(average.parameters()), list(module.parameters())
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
        self.register_buffer("vectors", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> Tensor:
        """Whether all random directions have been replaced; a bool scalar on the device."""
        return self.pushed >= len(self.vectors)

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        """Replace the oldest vectors by ``new`` (n, dim)."""
        size = len(self.vectors)
        new = new[-size:]
        rows = (self.pushed + torch.arange(len(new), device=new.device)) % size
        self.vectors[rows] = new.float()
        self.pushed += len(new)
