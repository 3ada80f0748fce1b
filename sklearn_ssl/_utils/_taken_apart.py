"""Networks and optimizers as arrays, and back.

Pickles hold arrays, which any machine can load, and which joblib can hash: torch's own pickles have
addresses of memory in them, and optimizers are dictionaries whose keys are tensors.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["as_arrays", "as_tensors", "put_together", "taken_apart"]


def taken_apart(module: nn.Module) -> tuple[nn.Module, list[Any]]:
    """Return a copy of a module without its parameters and buffers, and their values as arrays."""
    tensors = _tensors(module)
    blanks: dict[int, Any] = {id(tensor): _Blank(row, tensor) for row, tensor in enumerate(tensors)}
    return copy.deepcopy(module, blanks), [as_arrays(tensor) for tensor in tensors]


def put_together(skeleton: nn.Module, values: list[Any]) -> nn.Module:
    """Invert :func:`taken_apart`, on the CPU."""
    filled: dict[int, Any] = {}
    for part in skeleton.modules():
        for blank in (*part._parameters.values(), *part._buffers.values()):
            if isinstance(blank, _Blank) and id(blank) not in filled:
                filled[id(blank)] = blank.filled(as_tensors(values[blank.row]))
    return copy.deepcopy(skeleton, filled)


class _Blank:
    """Placeholder for a parameter or buffer."""

    def __init__(self, row: int, tensor: Tensor):
        self.row = row
        self.stride = torch.empty_like(tensor, device="meta").stride()  # of its layout in memory
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.trained = tensor.requires_grad

    def filled(self, tensor: Tensor) -> Tensor:
        """Return the parameter or buffer with this value."""
        laid_out = torch.empty_strided(tensor.shape, self.stride, dtype=tensor.dtype).copy_(tensor)
        return nn.Parameter(laid_out, self.trained) if self.is_parameter else laid_out


def as_arrays(values: Any) -> Any:
    """Convert tensors in dictionaries, lists and tuples to arrays and the names of their types."""
    if isinstance(values, Tensor):
        bits = values.detach().cpu().contiguous()
        if bits.dtype == torch.bfloat16:  # which NumPy lacks
            bits = bits.view(torch.int16)
        return _Array(bits.numpy(), str(values.dtype).removeprefix("torch."))
    if isinstance(values, dict):
        return {name: as_arrays(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_arrays, values))
    return values


def as_tensors(values: Any) -> Any:
    """Invert :func:`as_arrays`."""
    if isinstance(values, _Array):
        return torch.from_numpy(values.array.copy()).view(getattr(torch, values.dtype))
    if isinstance(values, dict):
        return {name: as_tensors(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_tensors, values))
    return values


@dataclass
class _Array:
    """Array in place of a tensor, and the name of the tensor's type."""

    array: np.ndarray
    dtype: str


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
