"""Training on several processes, the ranks, started by ``accelerate launch`` or ``torchrun``.

All ranks take the same steps, on the same batch and with the same random numbers, so that losses,
queues and banks are those of one process, and no method has to know. What takes long and works row
by row (networks, heads, decoders) is marked by :func:`by_rank`: each rank computes its share of the
rows, and all get the whole result.

The gradient of a parameter is the mean over ranks, as in torch's DistributedDataParallel. What all
ranks computed alike has the same gradient on each of them; for what they shared out, each has a
part of the sum, which is scaled by the number of ranks where the results are put together.
"""

import contextlib
import functools
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sklearn_ssl._utils._device import n_ranks
from sklearn_ssl._utils._rows import Rows, rows_of, rows_together
from sklearn_ssl.exceptions import ProcessLostError

__all__ = ["Ranks", "by_rank", "current_ranks", "joined"]

Params = ParamSpec("Params")
Result = TypeVar("Result")

# under its name from torch 2.14 on
_all_gather: Any = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

_LOST = (  # of gloo and NCCL
    *("Connection closed by peer", "Connection reset by peer", "gloo/transport", "Broken pipe"),
    *("Timed out waiting", "ncclRemoteError", "communicator was aborted"),
)


class Ranks:
    """Processes that train together, and the rank of this one; by default it is alone.

    Parameters
    ----------
    rank, size : int
        Number of this process, from 0 on, and how many there are.
    host : ProcessGroup, optional
        For what is exchanged without the device.
    """

    def __init__(self, rank: int = 0, size: int = 1, host: Any = None):
        self.rank = rank
        self.size = size
        self.host = host

    # What is exchanged between hosts

    def first(self, function: Callable[[], Result]) -> Result:
        """Call a function on the first rank, and return its result on all, or raise its error."""
        if self.size == 1:
            return function()
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
        """Return the values of all ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.host)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any rank is true."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.host)
        return bool(flags.item())

    # Tensors

    def part(self, whole: Tensor) -> Tensor:
        """Return the rows of this rank."""
        n = len(whole) // self.size
        return whole[self.rank * n : (self.rank + 1) * n]

    def whole(self, part: Tensor) -> Tensor:
        """Return the rows of all ranks, laid out in memory like those of this one."""
        if self.size == 1:
            return part
        channels_last = part.ndim == 4 and part.is_contiguous(memory_format=torch.channels_last)
        rows = (part.permute(0, 2, 3, 1) if channels_last else part).contiguous()
        out = rows.new_empty((self.size * len(rows), *rows.shape[1:]))
        to, values = (t.view(-1).view(torch.uint8) for t in (out, rows))  # any type, for gloo
        _all_gather(to, values)
        return out.permute(0, 3, 1, 2) if channels_last else out

    @torch.no_grad()
    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make each gradient its mean over ranks."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for dtype in {gradient.dtype: None for gradient in gradients}:
            some = [gradient for gradient in gradients if gradient.dtype == dtype]
            flat = torch.cat([gradient.reshape(-1) for gradient in some])
            dist.all_reduce(flat)
            flat /= self.size
            for gradient, values in zip(some, flat.split([g.numel() for g in some]), strict=True):
                gradient.copy_(values.view_as(gradient))

    @torch.no_grad()
    def share(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of the first one."""
        if self.size == 1:
            return
        for tensor in module.state_dict().values():
            if isinstance(tensor, Tensor):
                values = tensor.contiguous()
                dist.broadcast(values, src=0)
                tensor.copy_(values)

    # How work is shared out

    @contextlib.contextmanager
    def splitting(self) -> Iterator[None]:
        """Share out the work of functions that are marked by :func:`by_rank`."""
        before = _splitting.set(self if self.size > 1 else None)
        try:
            yield
        finally:
            _splitting.reset(before)

    def split(self, function: Callable, args: tuple[Any, ...]) -> Any:
        """Call a function with the rows of this rank, and give the results of all rows."""
        [n] = {len(given) for given in args if isinstance(given, Tensor)}
        if n % self.size:  # of a task of the user: all ranks compute all of it
            return function(*args)
        own = [rows_of(given, self) if isinstance(given, Tensor) else given for given in args]
        inner = _splitting.set(None)
        try:
            with Rows(self, n // self.size):
                out = function(*own)
        finally:
            _splitting.reset(inner)
        if isinstance(out, Tensor):
            return rows_together(out, self)
        return type(out)(rows_together(part, self) for part in out)


_ALONE = Ranks()
_current: ContextVar[Ranks] = ContextVar("ranks", default=_ALONE)
_splitting: ContextVar[Ranks | None] = ContextVar("splitting", default=None)


def current_ranks() -> Ranks:
    """Return the ranks of the fit that is under way."""
    return _current.get()


def by_rank(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Mark a function whose tensors, given and returned, have a row for each image.

    In a training on several processes each computes its share of the rows; batch norms have the
    statistics of all rows, and what is drawn for rows is what one process would draw. Elsewhere it
    is called as it is.
    """

    @functools.wraps(function)
    def split(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        ranks = _splitting.get()
        if ranks is None:
            return function(*args, **kwargs)
        return ranks.split(functools.partial(function, **kwargs), args)

    return split


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Yield the ranks that were started together, for a fit on the device of this one.

    Raises
    ------
    ImportError
        If there are several, but no Accelerate to connect them.
    ValueError
        If they cannot train on this device together.
    ProcessLostError
        If another one is gone.
    """
    ranks = _ALONE if n_ranks() == 1 else _connected(device)
    before = _current.set(ranks)
    try:
        yield ranks
    except RuntimeError as error:
        if ranks.size > 1 and any(said in str(error) for said in _LOST):
            raise ProcessLostError(
                "the connection to another process of this training was lost. It has ended, was "
                "killed, or does not answer; what it said last tells why. With checkpoint=..., the "
                "same fit goes on from its last checkpoint, with any number of processes"
            ) from error
        raise
    finally:
        _current.reset(before)


def _connected(device: torch.device) -> Ranks:
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError(
            f"WORLD_SIZE={n_ranks()} says that so many processes train together, which needs "
            "Accelerate: pip install 'sklearn-ssl[distributed]'. To train in each process alone, "
            "set os.environ['WORLD_SIZE'] = '1'"
        ) from error
    alone = "; to train in each process alone, set os.environ['WORLD_SIZE'] = '1'"
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or multiprocessing.current_process().name != "MainProcess":
        raise ValueError(
            "fits on several processes come one after the other, in the main thread of each: use "
            f"n_jobs=1 around them{alone}"
        )
    state = PartialState(cpu=device.type == "cpu")
    same = device.type == state.device.type and device.index in (None, state.device.index)
    if state.num_processes != n_ranks() or not same:
        raise ValueError(
            f"device={str(device)!r}, but of {n_ranks()} processes {state.num_processes} are "
            f"connected, and this one has {str(state.device)!r}; give device='auto'{alone}"
        )
    return Ranks(state.process_index, state.num_processes, _host_group())


@functools.cache
def _host_group() -> Any:
    """Return the group that all fits use for values in host memory.

    Gloo says at once when a process is gone, where NCCL would wait. So the timeout can be long: the
    first process may write for long, or wait for its turn in ``memory``.
    """
    return dist.new_group(backend="gloo", timeout=timedelta(days=1))
