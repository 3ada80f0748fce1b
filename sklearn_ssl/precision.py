"""Number formats: bfloat16 where the hardware is fast at it, float32 where it is needed."""

import contextlib

import torch

__all__ = ["autocast", "bfloat16_is_native", "full_precision"]


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
