"""Random numbers of a fit, which leave the generators of others alone."""

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["seeded"]


_generators_in_use = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators of the CPU and ``device``, and put them back at the end.

    They are global, so threads take turns.
    """
    with _generators_in_use:
        yield from _seeded(seed, device)


def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    on_cpu = device.type == "cpu"
    devices = [] if on_cpu else [device.index or 0]
    with torch.random.fork_rng(devices, device_type="cuda" if on_cpu else device.type):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        if device.type != "cuda":
            yield
            return
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            # the backward passes of the other attention kernels add up in any order
            with torch.cuda.device(device), sdpa_kernel(SDPBackend.MATH):
                torch.cuda.manual_seed(seed)
                yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
