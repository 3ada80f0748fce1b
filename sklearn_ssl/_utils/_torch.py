"""Devices, precision and random numbers, and process-wide settings that are restored."""

import contextlib
import ctypes
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_random_state
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

Result = TypeVar("Result")


# Processes that train together


class Processes:
    """Processes that train together; in this base class, only the current one.

    ``_processes.py`` handles several processes; a fit without a launcher never imports it.
    """

    rank = 0
    size = 1

    def first(self, function: Callable[[], Result]) -> Result:
        """Call a function in the first process; return its result or raise its error in all."""
        return function()

    def gathered(self, value: Result) -> list[Result]:
        """Return the values that all processes pass."""
        return [value]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        return flag

    def rows_of_all(self, rows: Tensor, dim: int) -> Tensor:
        """Gather the rows of all processes, with gradients."""
        return rows

    def own_part(self, rows: Tensor, dim: int = 0) -> Tensor:
        """Return this process's part of the rows of all processes."""
        return rows

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of values over processes."""
        return values

    def broadcast(self, module: nn.Module) -> None:
        """Copy parameters and buffers from the first process to all others."""

    def averaging(self, module: nn.Module) -> Callable[..., Any]:
        """Return a module to call in a step, whose gradients are averaged over processes."""
        return module

    def synchronized_norms(self) -> contextlib.AbstractContextManager:
        """Make batch norms use the statistics of the rows of all processes."""
        return contextlib.nullcontext()


_ALONE = Processes()
_current: ContextVar[Processes | None] = ContextVar("processes", default=None)


def current_processes() -> Processes:
    """Return the processes of the current fit."""
    return _current.get() or _ALONE


@contextlib.contextmanager
def processes_for(device: torch.device) -> Iterator[Processes]:
    """Yield the processes that a launcher started together, for a fit on this device."""
    if n_processes() == 1:
        yield _ALONE
        return
    from sklearn_ssl._utils._processes import connected, lost_connections_named

    processes = connected(device)
    before = _current.set(processes)
    try:
        with lost_connections_named():
            yield processes
    finally:
        _current.reset(before)


def n_processes() -> int:
    """Return the number of processes that ``accelerate launch`` or ``torchrun`` started."""
    return int(os.environ.get("WORLD_SIZE", 1))


# Devices


def _own_gpu() -> str:
    """Return the GPU of this process: the first one, or with several processes, its own."""
    row = int(os.environ.get("LOCAL_RANK", 0)) if n_processes() > 1 else 0
    return f"cuda:{row % torch.cuda.device_count()}"


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that an argument names; ``"auto"`` is a GPU if there is one.

    With several processes that train together, each has its own GPU.

    Raises
    ------
    ValueError
        If the name is not valid, or the device is not available.
    """
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    if device == "auto":
        if os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
            return torch.device("cpu")  # accelerate launch --cpu
        return torch.device(_own_gpu() if "cuda:0" in found else found[-1])
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    if wanted is not None and wanted.type == "cuda" and wanted.index is None:
        wanted = torch.device(_own_gpu() if "cuda:0" in found else "cuda:0")
    if wanted is not None and wanted.type == "mps":
        wanted = torch.device("mps")
    if wanted is None or str(wanted) not in found:
        raise ValueError(
            f"device={str(device)!r} is not available here; use 'auto' or one of {found}"
        )
    return wanted


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work, for example to measure time."""
    if device.type not in ("cpu", "meta"):  # they run synchronously
        torch.accelerator.synchronize(device)


# Precision


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a small tensor with the dtype and device of ``like``.

    It is filled on the device. ``torch.tensor`` would copy from the CPU, and wait for the GPU.
    """
    return torch.cat([like.new_full((1,), value) for value in values])


def bfloat16_is_native(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware (sm80 and up, AVX512-BF16, AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Run a forward pass at ``precision`` (auto, bfloat16 or float32), whatever the caller's is.

    The cache of cast weights is cleared at the end. torch clears it only at the end of the
    outermost autocast context, which here is :func:`full_precision`, so the next step would use the
    weights of this one.
    """
    if precision == "float32" or (precision == "auto" and not bfloat16_is_native(device)):
        with full_precision(device):
            yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        try:
            yield
        finally:
            torch.clear_autocast_cache()


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Suspend autocast, for views and for logits that are divided by a temperature."""
    if device.type == "meta":  # not supported by autocast
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


# Process-wide settings, which are restored


def _shared(setting: Callable) -> Callable:
    """Decorate a process-wide setting that the first of several threads makes, the last undoes."""
    lock, made, users = threading.Lock(), contextlib.ExitStack(), 0

    @contextlib.contextmanager
    @functools.wraps(setting)
    def shared() -> Iterator[None]:
        nonlocal users
        with lock:
            users += 1
            if users == 1:
                made.enter_context(setting())
        try:
            yield
        finally:
            with lock:
                users -= 1
                if users == 0:
                    made.close()

    return shared


@_shared
@contextlib.contextmanager
def float32_by_default() -> Iterator[None]:
    """Make float32 the default dtype of torch."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def deterministic_kernels(
    device: torch.device, wanted: bool = True
) -> contextlib.AbstractContextManager:
    """Make a GPU compute the same bits in every run, at the cost of its fastest kernels."""
    return _deterministic() if device.type == "cuda" and wanted else contextlib.nullcontext()


@_shared
@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    # the backward passes of the other attention kernels sum in arbitrary order
    with cudnn, sdpa_kernel(SDPBackend.MATH):
        yield


@_shared
@contextlib.contextmanager
def freed_memory_reused() -> Iterator[None]:
    """Let glibc reuse freed blocks of up to 31 MiB for the next batches, within this context.

    glibc's threshold follows the largest block freed so far. At first it is small, so every tensor
    of a batch of views gets new pages from the system, which takes half of the time.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)  # never touched, so it costs nothing
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


_process = os.getpid()


@contextlib.contextmanager
def threads_that_survive_a_fork() -> Iterator[None]:
    """Use one thread in a process forked from one that had imported torch, to avoid a deadlock.

    OpenMP's other threads do not exist in the child, which would wait for them forever.
    """
    threads = torch.get_num_threads()
    if os.getpid() == _process or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[list[int]]:
    """Defer Ctrl-C: yield a list that is filled when it is pressed; a second one acts at once."""
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # Python runs handlers in the main thread only
        yield noted
        return

    def note(number, frame):
        noted.append(number)
        if len(noted) > 1:
            before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Put all parts of a module into evaluation mode, and restore their modes at the end."""
    trained = [part for part in module.modules() if part.training]
    for part in trained:
        part.training = False
    try:
        yield
    finally:
        for part in trained:
            part.training = True


@contextlib.contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Isolate torch code from the caller's settings.

    The caller's default dtype and device, autocast, ``inference_mode`` and ``no_grad`` have no
    effect inside. Of the settings shared by all threads, only the default dtype is changed, and
    restored.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(float32_by_default())
        stack.enter_context(full_precision(torch.device("cpu")))
        stack.enter_context(full_precision(device))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        yield


@contextlib.contextmanager
def isolated(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Isolate torch code from the caller's settings and, with a seed, random number generators."""
    with own_settings(device), OwnRandomNumbers(device, seed):
        yield


def draw_seed(random_state: Any) -> int:
    """Draw a seed; if ``random_state`` is None, without advancing NumPy's global generator."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))


class OwnRandomNumbers(TorchFunctionMode):
    """Torch function mode with its own random number generators, and with safe convolutions.

    It can be entered repeatedly, and continues its random sequence. Every torch call inside costs a
    few extra microseconds.

    Parameters
    ----------
    device : torch.device
        Device of draws, in addition to the CPU.
    seed : int, optional
        Seed of the generators. Without a seed, draws are not affected.
    """

    def __init__(self, device: torch.device, seed: int | None = None):
        super().__init__()
        self.device = device
        self.handlers: dict[Any, Callable] = dict.fromkeys(_CONVOLUTIONS, _convolve)
        self.generators: dict[str, torch.Generator] = {}
        if seed is not None:
            self.generators["cpu"] = torch.Generator().manual_seed(seed)
            if device.type not in ("cpu", "meta"):
                self.generators[device.type] = torch.Generator(device).manual_seed(seed)
            self.handlers |= dict.fromkeys(_DRAW, self._draw)
            self.handlers |= dict.fromkeys(_DRAW_LIKE, self._draw_like)
            self.handlers |= dict.fromkeys(_DROP, self._drop)
            self.handlers |= dict.fromkeys(_DRAW_INTERNALLY, self._seeded)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the generators."""
        return {name: generator.get_state() for name, generator in self.generators.items()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Restore the states of generators; those of devices not in ``state`` stay as they are."""
        for name in state.keys() & self.generators.keys():
            self.generators[name].set_state(state[name])

    def restart_for(self, rank: int) -> None:
        """Reseed the generators from their state and the rank of this process, unless it is 0."""
        if rank:
            copy = torch.Generator()
            copy.set_state(self.generators["cpu"].get_state())
            seed = int(torch.randint(2**62, (), generator=copy)) + rank
            for generator in self.generators.values():
                generator.manual_seed(seed)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        handler = self.handlers.get(func)
        return func(*args, **kwargs) if handler is None else handler(func, *args, **kwargs)

    def _draw(self, func: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call a function with the generator of the device it draws on."""
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        tensor = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        device = torch.device(kwargs.get("device") or "cpu") if tensor is None else tensor.device
        generator = self.generators.get(device.type)  # none for the meta device
        if generator is None:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "generator": generator})

    def _draw_like(self, func: Callable, *args: Any, **options: Any) -> Tensor:
        """Replace rand_like etc., which accept no generator in some versions of torch."""
        like, *bounds = args or (options.pop("input"),)
        bounds += [options.pop(name) for name in ("low", "high") if name in options]
        grad = options.pop("requires_grad", False)
        out = torch.empty_like(like, **options)
        if func is torch.randint_like:
            out = self._draw(Tensor.random_, out, *([0, *bounds][-2:]))
        else:
            out = self._draw(Tensor.uniform_ if func is torch.rand_like else Tensor.normal_, out)
        return out.requires_grad_() if grad else out

    def _drop(
        self,
        func: Callable,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        """Apply dropout to values or whole channels."""
        if not training or not p:
            return input
        sides = _DROP[func]
        if sides == 2 and input.ndim == 3:  # torch then treats channels as 1-D
            sides = 1
        shape = (*input.shape[: input.ndim - sides], *(1,) * sides)
        keep = self._draw(Tensor.bernoulli_, input.new_empty(shape), 1 - p)
        keep = keep.div_(1 - p) if p < 1 else keep
        return input.mul_(keep) if inplace else input * keep

    def _seeded(self, func: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call a function that draws from the global generators; seed them first, then restore."""
        if not _drops(func, args, kwargs):
            return func(*args, **kwargs)
        seed = int(torch.randint(2**31, (), generator=self.generators["cpu"]))
        on_device = self.device.type in ("cuda", "mps")
        devices, kind = ([self.device.index or 0], self.device.type) if on_device else ([], "cuda")
        with _global_generators, torch.random.fork_rng(devices, device_type=kind):
            torch.default_generator.manual_seed(seed)
            if on_device:
                getattr(torch, kind).manual_seed(seed)
            return func(*args, **kwargs)


# Random numbers

_DRAW: set[Any] = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal),
    *(torch.bernoulli, torch.multinomial, torch.poisson, torch.binomial),
    *(torch._standard_gamma, torch._sample_dirichlet),
    *(Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_, Tensor.bernoulli),
    *(Tensor.exponential_, Tensor.geometric_, Tensor.cauchy_, Tensor.log_normal_),
    *(Tensor.multinomial, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
    *(nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_),
    nn.init.trunc_normal_,
}
_DRAW_LIKE = {torch.rand_like, torch.randn_like, torch.randint_like}
_DROP = {F.dropout: 0, F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}  # spatial dimensions
_DRAW_INTERNALLY = {  # accept no generator, and draw internally
    *(F.alpha_dropout, F.feature_alpha_dropout, F.rrelu, F.rrelu_, F.gumbel_softmax),
    *(F.fractional_max_pool2d, F.fractional_max_pool3d),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *(torch.dropout, torch.dropout_, torch.native_dropout, torch.rrelu, torch.rrelu_),
    *(torch.feature_dropout, torch.feature_dropout_, torch.alpha_dropout, torch.alpha_dropout_),
    *(torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
    *(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu),
}
_DROPOUT_P = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}  # its position


def _drops(func: Callable, args: tuple, kwargs: dict) -> bool:
    """Return whether a function draws, judging by its arguments."""
    position = _DROPOUT_P.get(func)
    if position is None:
        return True
    p = kwargs.get("dropout_p", args[position] if len(args) > position else 0.0)
    return p > 0 and kwargs.get("training", True)


_global_generators = threading.RLock()
if hasattr(os, "register_at_fork"):  # the thread holding the lock does not exist in a child
    os.register_at_fork(
        before=_global_generators.acquire,
        after_in_parent=_global_generators.release,
        after_in_child=_global_generators.release,
    )


# Convolutions with a kernel larger than the feature map

_CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}


def _convolve(func: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """Convolve in float32 on a CPU if the map is smaller than the kernel, and as usual otherwise.

    With bfloat16 and stride 2 on a CPU, torch (seen with 2.14, oneDNN) leaves the gradient of
    weights that see only padding uninitialized: it may contain anything.
    """
    given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    inputs, weight = given["input"], given["weight"]
    sides = zip(inputs.shape[2:], weight.shape[2:], strict=False)
    if inputs.device.type != "cpu" or all(side >= kernel for side, kernel in sides):
        return func(*args, **kwargs)
    with full_precision(inputs.device):
        wide = {name: _widened(value) for name, value in kwargs.items()}
        return func(*map(_widened, args), **wide)


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
