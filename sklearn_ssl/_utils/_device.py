"""Where the network runs, and in which number format."""

import contextlib
import functools

import torch

__all__ = [
    "autocast",
    "bfloat16_is_native",
    "full_precision",
    "keep_freed_memory",
    "resolve_device",
]


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that an argument stands for; ``"auto"`` is a GPU when there is one.

    Raises
    ------
    ValueError
        If it is no name of a device, or there is no such device.
    """
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    if device == "auto":
        return torch.device(found[1] if len(found) > 1 else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    if wanted is not None and wanted.type == "cuda" and wanted.index is None:
        wanted = torch.device("cuda:0")
    if wanted is None or str(wanted) not in found:
        raise ValueError(
            f"device={str(device)!r} is not available here; use 'auto' or one of {found}"
        )
    return wanted


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (CUDA from sm80 on, AVX512-BF16, AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context of a forward pass at ``precision``: ``"auto"``, ``"bfloat16"``, ``"float32"``."""
    wanted = precision == "bfloat16" or (precision == "auto" and bfloat16_is_native(device))
    if not wanted:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Suspend autocast: for views, and for logits that are divided by a temperature."""
    if device.type == "meta":  # which autocast does not know
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep freed blocks of up to 31 MiB for the next batch.

    How much it keeps follows the largest block that was freed. At first that is little, every
    tensor of a batch of views comes page by page from the system, and this takes half of the time.
    The block here is never touched, so it costs nothing.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
