"""Networks and optimizers as arrays, and back.

Pickles hold arrays, which any machine can load, and which joblib can hash: torch's own pickles have
addresses of memory in them, and optimizers are dictionaries whose keys are tensors.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["as_arrays", "as_tensors", "put_together", "taken_apart"]


def taken_apart(module: nn.Module) -> tuple[nn.Module, list[Any]]:
    """A copy of a module without values, and the values of its parameters and buffers."""
    tensors = _tensors(module)
    hollow = {id(tensor): _like(tensor, torch.device("meta")) for tensor in tensors}
    return copy.deepcopy(module, hollow), [as_arrays(tensor) for tensor in tensors]


def put_together(skeleton: nn.Module, values: list[Any]) -> nn.Module:
    """The inverse of :func:`taken_apart`, on the CPU."""
    filled: dict[int, Tensor] = {}
    for hollow, value in zip(_tensors(skeleton), values, strict=True):
        tensor = filled[id(hollow)] = _like(hollow, torch.device("cpu"))
        with torch.no_grad():
            tensor.copy_(as_tensors(value))
    return copy.deepcopy(skeleton, filled)


def as_arrays(values: Any) -> Any:
    """Tensors in dictionaries, lists and tuples as (array, name of the dtype)."""
    if isinstance(values, Tensor):
        bits = values.detach().cpu().contiguous()
        if bits.dtype == torch.bfloat16:  # which NumPy has not
            bits = bits.view(torch.int16)
        return _Array((bits.numpy(), str(values.dtype).removeprefix("torch.")))
    if isinstance(values, dict):
        return {name: as_arrays(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_arrays, values))
    return values


def as_tensors(values: Any) -> Any:
    """The inverse of :func:`as_arrays`."""
    if isinstance(values, _Array):
        array, dtype = values
        return torch.from_numpy(array.copy()).view(getattr(torch, dtype))
    if isinstance(values, dict):
        return {name: as_tensors(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_tensors, values))
    return values


class _Array(tuple):
    """What stands for a tensor."""


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    """An empty tensor with the same layout in memory."""
    empty = torch.empty_like(tensor, device=device, requires_grad=False)
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
