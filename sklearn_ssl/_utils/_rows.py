"""Share of the rows of a batch, with gradients, batch norms and draws as if all were there."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from sklearn_ssl._utils._isolation import DRAWS

__all__ = ["Rows", "rows_of", "rows_together"]


def rows_of(whole: Tensor, ranks: Any) -> Tensor:
    """Return the rows of this rank; gradients of all ranks come back together."""
    return _Part.apply(whole, ranks) if whole.requires_grad else ranks.part(whole)


def rows_together(part: Tensor, ranks: Any) -> Tensor:
    """Return the rows of all ranks; each passes the gradient of its own rows back."""
    return _Whole.apply(part, ranks)


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(ctx, whole, ranks):
        ctx.ranks = ranks
        return ranks.part(whole).clone()  # what follows may be done in place

    @staticmethod
    def backward(ctx, gradient):
        return ctx.ranks.whole(gradient) / ctx.ranks.size, None


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part, ranks):
        ctx.ranks = ranks
        return ranks.whole(part)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.ranks.part(gradient) * ctx.ranks.size, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return _Sum.apply(gradient.contiguous())


class Rows(TorchFunctionMode):
    """A mode in which batch norms and draws of torch are those of all rows.

    Parameters
    ----------
    ranks : Ranks
    n_rows : int
        Of this rank. What has so many, or a multiple, is drawn for all ranks, and its part taken.
    """

    def __init__(self, ranks: Any, n_rows: int):
        super().__init__()
        self.ranks = ranks
        self.n_rows = n_rows

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in DRAWS:
            return self._draw(func, args, kwargs)
        return func(*args, **kwargs)

    # Draws

    def _draw(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        if func in (torch.rand, torch.randn):
            args = (torch.empty(*args, **kwargs),)
            func, kwargs = Tensor.uniform_ if func is torch.rand else Tensor.normal_, {}
        like = args[0] if args and isinstance(args[0], Tensor) else None
        if like is None or not like.ndim or len(like) % self.n_rows:
            return func(*args, **kwargs)  # the same on all ranks
        for_all = like.repeat(self.ranks.size, *(1,) * (like.ndim - 1))
        drawn = self.ranks.part(func(for_all, *args[1:], **kwargs))
        return like.copy_(drawn) if func.__name__.endswith("_") else drawn

    # Batch norms

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        running = (running_mean, running_var)
        if not training:
            return F.batch_norm(input, *running, weight, bias, False, momentum, eps)
        if input.is_cuda:  # torch's own, which knows no other device
            options = (eps, momentum, dist.group.WORLD, self.ranks.size)
            return SyncBatchNorm.apply(input, weight, bias, *running, *options)
        wide = input.float()
        own = torch.stack(torch.var_mean(wide, [0, *range(2, input.ndim)], correction=0))
        place = torch.arange(self.ranks.size) == self.ranks.rank
        variances, means = _Sum.apply(own * place[:, None, None]).unbind(1)  # (ranks, d) each
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if running_mean is not None and running_var is not None:
            n = self.ranks.size * input.numel() // input.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * n / (n - 1)).to(running_var.dtype), momentum)
        scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
        shape = (1, -1, *(1,) * (input.ndim - 2))
        out = (wide - mean.view(shape)) * scale.view(shape)
        return (out if bias is None else out + bias.view(shape)).to(input.dtype)
