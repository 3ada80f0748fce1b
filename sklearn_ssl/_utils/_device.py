"""Device and number format of the network, and settings of the process that are put back."""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "autocast",
    "bfloat16_is_native",
    "constants",
    "deterministic_kernels",
    "evaluation",
    "float32_by_default",
    "freed_memory_kept",
    "full_precision",
    "interrupts_deferred",
    "n_ranks",
    "resolve_device",
    "synchronize",
    "threads_that_survive_a_fork",
]


def n_ranks() -> int:
    """Return how many processes ``accelerate launch`` or ``torchrun`` started to train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _own_gpu() -> str:
    """Return the GPU of this process: the first one, or its own where several train together."""
    row = int(os.environ.get("LOCAL_RANK", 0)) if n_ranks() > 1 else 0
    return f"cuda:{row % torch.cuda.device_count()}"


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that an argument stands for; ``"auto"`` is a GPU if there is one.

    Of several processes that train together, each has a GPU of its own.

    Raises
    ------
    ValueError
        If it is no name of a device, or there is no such device.
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
    """Wait until a device has finished all its work, so that a clock can be read."""
    if device.type not in ("cpu", "meta"):  # which are never behind
        torch.accelerator.synchronize(device)


# Number formats, and numbers


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a small tensor of the type of ``like``, filled on its device.

    ``torch.tensor`` would copy it from the CPU, and wait for a GPU to finish what it is doing.
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


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context of a forward pass at ``precision`` (auto, bfloat16 or float32).

    It overrides an autocast of the caller around it.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and bfloat16_is_native(device))
    if not wanted:
        return full_precision(device)
    return _autocast_anew(device)


@contextlib.contextmanager
def _autocast_anew(device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16, and forget the weights that were cast at the end.

    torch forgets them at the end of the outermost autocast, and :func:`full_precision` is one: the
    next step would see the weights of this one.
    """
    with torch.autocast(device.type, dtype=torch.bfloat16):
        try:
            yield
        finally:
            torch.clear_autocast_cache()


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Suspend autocast: for views, and for logits that are divided by a temperature."""
    if device.type == "meta":  # which autocast does not know
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


# What is global in a process, and put back


class _WhileInUse:
    """Settings of the process that the first of several threads makes, and the last one undoes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.settings = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self, *contexts: contextlib.AbstractContextManager) -> Iterator[None]:
        with self.lock:
            self.users += 1
            if self.users == 1:
                for context in contexts:
                    self.settings.enter_context(context)
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    self.settings.close()


_deterministic, _keeping_memory, _floats = _WhileInUse(), _WhileInUse(), _WhileInUse()


def float32_by_default() -> contextlib.AbstractContextManager:
    """Make float32 torch's default type of floats."""
    return _floats(_float32_by_default())


@contextlib.contextmanager
def _float32_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def deterministic_kernels(
    device: torch.device, wanted: bool = True
) -> contextlib.AbstractContextManager:
    """Make a GPU give the same bits in every run, at the cost of its fastest kernels."""
    if device.type != "cuda" or not wanted:
        return contextlib.nullcontext()
    # the backward passes of the other attention kernels add up in any order
    return _deterministic(
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        sdpa_kernel(SDPBackend.MATH),
    )


def freed_memory_kept() -> contextlib.AbstractContextManager:
    """Let glibc keep freed blocks of up to 31 MiB for the next batch, until the end.

    How much it keeps follows the largest block that was freed. At first that is little, every
    tensor of a batch of views comes page by page from the system, and this takes half of the time.
    """
    return _keeping_memory(_freed_memory_kept())


@contextlib.contextmanager
def _freed_memory_kept() -> Iterator[None]:
    torch.empty(31 * 2**20, dtype=torch.uint8)  # never touched, so it costs nothing
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


_process = os.getpid()


@contextlib.contextmanager
def threads_that_survive_a_fork() -> Iterator[None]:
    """Use one thread in a process that was forked from one with torch in it: more would hang.

    OpenMP's other threads are gone in the child, which would wait for them forever.
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
    """Yield a list that is not empty once Ctrl-C was pressed; pressed again, it acts at once."""
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
    """Put all parts into evaluation mode, and those that were in training mode back at the end."""
    trained = [part for part in module.modules() if part.training]
    for part in trained:
        part.training = False
    try:
        yield
    finally:
        for part in trained:
            part.training = True
