"""Distributed training in several processes, started by ``accelerate launch`` or ``torchrun``.

Each process reads, augments and encodes its share of a batch, with its own random numbers. Torch's
DistributedDataParallel averages the gradients during the backward pass. Batch norms use the
statistics of the whole batch, and losses that compare images across the batch gather the
embeddings with ``gather`` in ``sklearn_ssl.nn``.
"""

import contextlib
import functools
import gc
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from sklearn_ssl._utils._torch import Processes, Result, n_processes
from sklearn_ssl.exceptions import ProcessLostError

# named all_gather_single from torch 2.14 on
_all_gather: Any = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

_LOST = (  # errors of gloo and NCCL
    *("Connection closed by peer", "Connection reset by peer", "gloo/transport", "Broken pipe"),
    *("Timed out waiting", "ncclRemoteError", "communicator was aborted"),
)


class SeveralProcesses(Processes):
    """Several processes that train together.

    Parameters
    ----------
    rank, size : int
        Rank of this process, from 0, and number of processes.
    host : ProcessGroup
        Group that exchanges values in host memory.
    """

    def __init__(self, rank: int, size: int, host: Any):
        self.rank = rank
        self.size = size
        self.host = host
        self.wrapped: tuple[Any, Any] = (None, None)  # trained parameters, and the wrapper for them

    # Values in host memory

    def first(self, function: Callable[[], Result]) -> Result:
        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                said = [function(), None]
            except Exception as error:
                said = [None, error]
        dist.broadcast_object_list(said, src=0, group=self.host)
        result, failure = said
        if failure is not None:
            raise failure
        return result

    def gathered(self, value: Result) -> list[Result]:
        values: list[Any] = [value] * self.size
        dist.all_gather_object(values, value, group=self.host)
        return values

    def any(self, flag: bool) -> bool:
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.host)
        return bool(flags.item())

    # Tensors

    def rows_of_all(self, rows: Tensor, dim: int) -> Tensor:
        return _RowsOfAll.apply(rows.movedim(dim, 0), self).movedim(0, dim)

    def own_part(self, rows: Tensor, dim: int = 0) -> Tensor:
        n = rows.shape[dim] // self.size
        return rows.narrow(dim, self.rank * n, n)

    @torch.no_grad()
    def mean(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    @torch.no_grad()
    def broadcast(self, module: nn.Module) -> None:
        for tensor in module.state_dict().values():
            if isinstance(tensor, Tensor):
                values = tensor.contiguous()
                dist.broadcast(values, src=0)
                tensor.copy_(values)

    # Steps

    def averaging(self, module: nn.Module) -> Callable[..., Any]:
        trained = module, [p.requires_grad for p in module.parameters()]
        if not any(trained[1]):  # the loop says so
            return module
        if self.wrapped[0] != trained:  # frozen layers may change between epochs
            self.wrapped = None, None
            gc.collect()  # the hooks of a wrapper stay on parameters until it is deleted
            wrapper = DistributedDataParallel(
                _LossAlone(module), broadcast_buffers=False, find_unused_parameters=True
            )
            self.wrapped = trained, wrapper
        return self.wrapped[1]

    def synchronized_norms(self) -> contextlib.AbstractContextManager:
        return _SynchronizedNorms(self)


class _LossAlone(nn.Module):
    """Wrapper that detaches all terms but the loss, the only one that is backpropagated."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *batch: Tensor) -> Any:
        output = self.module(*batch)
        for name, term in getattr(output, "terms", {}).items():
            output.terms[name] = torch.as_tensor(term).detach()
        return output


class _RowsOfAll(torch.autograd.Function):
    """Function that gathers rows; a row's gradient is the sum of its gradients in all processes."""

    @staticmethod
    def forward(ctx, rows, processes):
        ctx.processes = processes
        rows = rows.contiguous()
        out = rows.new_empty((processes.size * len(rows), *rows.shape[1:]))
        to, values = (t.view(-1).view(torch.uint8) for t in (out, rows))  # as bytes, for gloo
        _all_gather(to, values)
        return out

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return ctx.processes.own_part(total), None


class _SynchronizedNorms(TorchFunctionMode):
    """Torch function mode in which batch norms use the statistics of all processes' rows."""

    def __init__(self, processes: SeveralProcesses):
        super().__init__()
        self.processes = processes
        self.size = processes.size

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

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
        if input.is_cuda:  # torch's own supports no other device
            options = (eps, momentum, dist.group.WORLD, self.size)
            return SyncBatchNorm.apply(input, weight, bias, *running, *options)
        wide = input.float()
        own = torch.stack(torch.var_mean(wide, [0, *range(2, input.ndim)], correction=0))
        variances, means = self.processes.rows_of_all(own[None], 0).unbind(1)  # (processes, d)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if running_mean is not None and running_var is not None:
            n = self.size * input.numel() // input.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * n / (n - 1)).to(running_var.dtype), momentum)
        scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
        shape = (1, -1, *(1,) * (input.ndim - 2))
        out = (wide - mean.view(shape)) * scale.view(shape)
        return (out if bias is None else out + bias.view(shape)).to(input.dtype)


@contextlib.contextmanager
def lost_connections_named() -> Iterator[None]:
    """Turn torch's errors about lost processes into ProcessLostError."""
    try:
        yield
    except RuntimeError as error:
        if any(said in str(error) for said in _LOST):
            raise ProcessLostError(
                "the connection to another process of this training run was lost: it has ended, "
                "was killed or does not respond; see its output for the reason. With "
                "checkpoint=..., the same fit resumes from its last checkpoint, with any number of "
                "processes"
            ) from error
        raise


def connected(device: torch.device) -> SeveralProcesses:
    """Connect the processes that were started together, with Accelerate, and return them.

    Raises
    ------
    ImportError
        If Accelerate is not installed.
    ValueError
        If the processes cannot train together on this device.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError(
            f"WORLD_SIZE={n_processes()} means that as many processes train together, which "
            "needs Accelerate: pip install 'sklearn-ssl[distributed]'. To train separately in each "
            "process, set os.environ['WORLD_SIZE'] = '1'"
        ) from error
    alone = "; to train separately in each process, set os.environ['WORLD_SIZE'] = '1'"
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or multiprocessing.current_process().name != "MainProcess":
        raise ValueError(
            "with several processes, fits must run one at a time, in the main thread of each "
            f"process: use n_jobs=1 around them{alone}"
        )
    state = PartialState(cpu=device.type == "cpu")
    same = device.type == state.device.type and device.index in (None, state.device.index)
    if state.num_processes != n_processes() or not same:
        raise ValueError(
            f"device={str(device)!r}, but this process has device {str(state.device)!r}, and "
            f"{state.num_processes} of {n_processes()} processes are connected; set "
            f"device='auto'{alone}"
        )
    return SeveralProcesses(state.process_index, state.num_processes, _host_group())


@functools.cache
def _host_group() -> Any:
    """Return the group that all fits use for values in host memory.

    Gloo notices at once if a process is gone, while NCCL would wait. So the timeout can be long,
    as the first process may take long to write files, or have to wait for a lock in ``memory``.
    """
    return dist.new_group(backend="gloo", timeout=timedelta(days=1))
