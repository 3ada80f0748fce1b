"""Networks and optimizers as arrays, and back.

Pickles hold arrays, which any machine can load, and which joblib can hash: torch's own pickles have
addresses of memory in them, and optimizers are dictionaries whose keys are tensors.
"""

import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssl._utils._isolation import own_settings

__all__ = ["StateMixin", "put_together", "taken_apart"]


class StateMixin:
    """A net that goes on with other options, moves, is copied, and is pickled as arrays."""

    module: Any
    module_: Any
    optimizer: Any
    optimizer_: Any
    callbacks_: list
    weight_decay: float
    initialize_callbacks: Any
    initialize_optimizer: Any
    _current_init_context: Any

    def set_training(self, options: dict[str, Any], batch_size: int, device: torch.device) -> None:
        """Continue with other options. The optimizer is a new one only if another is wanted."""
        fresh = options["optimizer"] != self.optimizer
        self.__dict__.update(options, batch_size=batch_size)
        self.move_to(device)
        self.initialize_callbacks()
        if fresh:
            with self._current_init_context("optimizer"):
                self.initialize_optimizer()
        for group in self.optimizer_.param_groups:
            if group.get("decays"):
                group["weight_decay"] = self.weight_decay

    def move_to(self, device: torch.device) -> None:
        """Move the module and the optimizer's state."""
        self.device = str(device)
        self.module_.to(device)
        # torch moves the state to where the parameters are, but for what it wants on the CPU
        self.set_optimizer_state(self.optimizer_.state_dict())

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take it, laid out in memory as the parameters are.

        torch's fused optimizers go through memory side by side, and mix values of other layouts up.
        """
        self.optimizer_.load_state_dict(state)
        for parameter, values in self.optimizer_.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def copied(self) -> Self:
        """A copy of all but the user's callbacks, which may hold open files."""
        kept = (self.optimizer, *(callback for _, callback in self.callbacks_))
        return copy.deepcopy(self, {id(given): given for given in kept})

    def __getstate__(self) -> dict[str, Any]:
        """Arrays in place of tensors, so that any machine can load them."""
        module, values = taken_apart(self.module_)
        return {
            **self.__dict__,
            "module": module,
            "module_": values,
            "optimizer_": as_arrays(self.optimizer_.state_dict()),
            "device": "cpu",
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with own_settings(torch.device("cpu")):
            self.module = self.module_ = put_together(state["module"], state["module_"])
            with self._current_init_context("optimizer"):
                self.initialize_optimizer()
            self.set_optimizer_state(as_tensors(state["optimizer_"]))


def taken_apart(module: nn.Module) -> tuple[nn.Module, list[Any]]:
    """A copy of a module with blanks in place of its parameters and buffers, and their values."""
    tensors = _tensors(module)
    blanks: dict[int, Any] = {id(tensor): _Blank(row, tensor) for row, tensor in enumerate(tensors)}
    return copy.deepcopy(module, blanks), [as_arrays(tensor) for tensor in tensors]


def put_together(skeleton: nn.Module, values: list[Any]) -> nn.Module:
    """The inverse of :func:`taken_apart`, on the CPU."""
    filled: dict[int, Any] = {}
    for part in skeleton.modules():
        for blank in (*part._parameters.values(), *part._buffers.values()):
            if isinstance(blank, _Blank) and id(blank) not in filled:
                filled[id(blank)] = blank.filled(as_tensors(values[blank.row]))
    return copy.deepcopy(skeleton, filled)


class _Blank:
    """The place of a parameter or buffer."""

    def __init__(self, row: int, tensor: Tensor):
        self.row = row
        self.stride = torch.empty_like(tensor, device="meta").stride()  # of its layout in memory
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.trained = tensor.requires_grad

    def filled(self, tensor: Tensor) -> Tensor:
        """The parameter or buffer with this value."""
        laid_out = torch.empty_strided(tensor.shape, self.stride, dtype=tensor.dtype).copy_(tensor)
        return nn.Parameter(laid_out, self.trained) if self.is_parameter else laid_out


def as_arrays(values: Any) -> Any:
    """Arrays, and names of their types, for tensors in dictionaries, lists and tuples."""
    if isinstance(values, Tensor):
        bits = values.detach().cpu().contiguous()
        if bits.dtype == torch.bfloat16:  # which NumPy has not
            bits = bits.view(torch.int16)
        return _Array(bits.numpy(), str(values.dtype).removeprefix("torch."))
    if isinstance(values, dict):
        return {name: as_arrays(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_arrays, values))
    return values


def as_tensors(values: Any) -> Any:
    """The inverse of :func:`as_arrays`."""
    if isinstance(values, _Array):
        return torch.from_numpy(values.array.copy()).view(getattr(torch, values.dtype))
    if isinstance(values, dict):
        return {name: as_tensors(value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(map(as_tensors, values))
    return values


@dataclass
class _Array:
    """What stands for a tensor."""

    array: np.ndarray
    dtype: str


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
