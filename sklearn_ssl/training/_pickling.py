"""State of nets: pickling, copying, saving, and moving to other devices.

Pickles contain tensors as the bytes of a file, which any machine can load and joblib can hash.
torch's own pickles contain memory addresses, and optimizers are dictionaries keyed by tensors.
"""

import copy
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._storage import from_bytes, to_bytes
from sklearn_ssl._utils._torch import own_settings
from sklearn_ssl.nn import make_optimizer

# skorch is imported when a learner is fitted
if TYPE_CHECKING:
    from skorch import NeuralNet
else:
    NeuralNet = object


def module_to_bytes(module: nn.Module) -> tuple[nn.Module, bytes]:
    """Return a copy of a module without its parameters and buffers, and their values as bytes."""
    tensors = [*module.parameters(), *module.buffers()]
    blanks: dict[int, Any] = {id(tensor): _Blank(row, tensor) for row, tensor in enumerate(tensors)}
    return copy.deepcopy(module, blanks), to_bytes([*map(_as_real, tensors)])


def module_from_bytes(skeleton: nn.Module, content: bytes) -> nn.Module:
    """Invert :func:`module_to_bytes`, on the CPU."""
    values, filled = from_bytes(content), dict[int, Any]()
    for part in skeleton.modules():
        for blank in (*part._parameters.values(), *part._buffers.values()):
            if isinstance(blank, _Blank) and id(blank) not in filled:
                filled[id(blank)] = blank.filled(values[blank.row])
    return copy.deepcopy(skeleton, filled)


def values_to_bytes(values: Any) -> tuple[Any, bytes]:
    """Return nested values with placeholders for their tensors, and the tensors."""
    tensors: list[Tensor] = []

    def replaced(inner: Any) -> Any:
        if isinstance(inner, Tensor):
            tensors.append(inner)
            return _Blank(len(tensors) - 1, inner)
        return _mapped(replaced, inner)

    return replaced(values), to_bytes([*map(_as_real, tensors)])


def values_from_bytes(values: Any, content: bytes) -> Any:
    """Invert :func:`values_to_bytes`."""
    tensors = from_bytes(content)

    def filled(inner: Any) -> Any:
        if isinstance(inner, _Blank):
            return inner.filled(tensors[inner.row])
        return _mapped(filled, inner)

    return filled(values)


def _mapped(function: Any, values: Any) -> Any:
    """Apply a function to the values of a dictionary, list or tuple; leave others as they are."""
    if type(values) is dict:
        return {name: function(value) for name, value in values.items()}
    return type(values)(map(function, values)) if type(values) in (list, tuple) else values


def _as_real(tensor: Tensor) -> Tensor:
    """Return a view that safetensors can hold."""
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor


class _Blank:
    """Placeholder for a parameter or buffer."""

    def __init__(self, row: int, tensor: Tensor):
        self.row = row
        self.stride = torch.empty_like(tensor, device="meta").stride()  # its memory layout
        self.is_parameter = isinstance(tensor, nn.Parameter)
        self.trained = tensor.requires_grad
        self.is_complex = tensor.is_complex()

    def filled(self, tensor: Tensor) -> Tensor:
        """Return a parameter or buffer with these values."""
        tensor = torch.view_as_complex(tensor) if self.is_complex else tensor
        laid_out = torch.empty_strided(tensor.shape, self.stride, dtype=tensor.dtype).copy_(tensor)
        return nn.Parameter(laid_out, self.trained) if self.is_parameter else laid_out


class FrozenNet:
    """Counterpart of ``PretextNet`` that is not trained, for :func:`apply`, pickles and files.

    Parameters
    ----------
    pixels : PixelRange
        Scaling of pixels to [0, 1].
    encoder : Encoder
    device : torch.device
    precision : str
        Precision, as in learners.
    deterministic : bool
        Determinism, as in learners.
    """

    def __init__(
        self,
        pixels: nn.Module,
        encoder: Any,
        device: torch.device,
        precision: str,
        deterministic: bool = True,
    ):
        self.module_: Any = nn.ModuleDict({"pixels": pixels, "encoder": encoder})
        self.module_.requires_grad_(False).eval()
        for p in self.module_.parameters():
            if p.ndim == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        self.precision = precision
        self.deterministic = deterministic
        self.move_to(device)

    @property
    def encoder(self) -> Any:
        """Frozen encoder."""
        return self.module_.encoder

    def move_to(self, device: torch.device) -> None:
        """Move the module to a device."""
        self.device = str(device)
        self.module_.to(device)

    def state(self) -> dict[str, Any]:
        """Return the state besides the module: nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned: nothing."""

    def __getstate__(self) -> dict[str, Any]:
        module, values = module_to_bytes(self.module_)
        return {**self.__dict__, "module_": (module, values), "device": "cpu"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with own_settings(torch.device("cpu")):
            self.module_ = module_from_bytes(*state["module_"])


class StateMixin(NeuralNet):
    """Mixin for nets: training with new options, moving, copying, and pickling as bytes."""

    history: Any

    def set_options(self, options: dict[str, Any], batch_size: int, device: torch.device) -> None:
        """Set new options for continued training; make a new optimizer only if it changed."""
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
        """Move the module and the optimizer's state to a device."""
        self.device = str(device)
        self.module_.to(device)
        # torch moves the state to the parameters' device, except for what it needs on the CPU
        self.set_optimizer_state(self.optimizer_.state_dict())

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        """Load the optimizer's state with the memory layout of the parameters.

        torch's fused optimizers walk through both in memory order, and mix up values if the layouts
        differ.
        """
        self.optimizer_.load_state_dict(state)
        for parameter, values in self.optimizer_.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def check_optimizer_state(self, state: dict[str, Any]) -> None:
        """Raise ValueError if ``state`` cannot be a state of this optimizer.

        torch's fused optimizers do not check: they write past the end of a state that is too small.
        """
        own = self.optimizer_.state_dict()
        groups, wanted = state["param_groups"], own["param_groups"]
        if [group["params"] for group in groups] != [group["params"] for group in wanted]:
            raise ValueError("the optimizer's state belongs to other parameters")
        if [set(group) for group in groups] != [set(group) for group in wanted]:
            raise ValueError("the optimizer's state belongs to another optimizer")
        expected = self._state_after_a_step()
        if expected is None:
            return
        for row, values in state["state"].items():
            found, right = _shapes(values), _shapes(expected.get(row, {}))
            if found != right:
                raise ValueError(
                    f"the optimizer's state of parameter {row} has shapes {found}, not {right}"
                )

    def _state_after_a_step(self) -> dict[int, dict[str, Any]] | None:
        """Return the optimizer's state after a step on the meta device, or None if that fails.

        It works for all named optimizers and torch's fused ones. Other classes have to check their
        state themselves.
        """
        groups = [
            {**group, "params": [torch.empty_like(p, device="meta") for p in group["params"]]}
            for group in self.optimizer_.param_groups
        ]
        for group in groups:
            if "fused" in group:
                group["fused"] = False  # not supported on the meta device
            for p in group["params"]:
                p.requires_grad_().grad = torch.empty_like(p)
        try:
            optimizer = make_optimizer(self.optimizer, groups, self.lr, self.weight_decay)
            optimizer.step()
        except Exception:  # a user's class may fail in any way on the meta device
            if isinstance(self.optimizer, str):
                raise
            return None
        return optimizer.state_dict()["state"]

    def state(self) -> dict[str, Any]:
        """Return the state that a continued fit needs, besides the module."""
        return {
            "optimizer": self.optimizer_.state_dict(),
            "history": [dict(row) for row in self.history],
            "batch_size": self.batch_size,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.check_optimizer_state(state["optimizer"])
        self.set_optimizer_state(state["optimizer"])
        self.history = type(self.history)(state["history"])

    def copied(self) -> Self:
        """Copy everything except the user's optimizer and callbacks, which may hold open files."""
        shared = (self.optimizer, *(callback for _, callback in self.callbacks_))
        return copy.deepcopy(self, {id(given): given for given in shared})

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with bytes instead of tensors, so that any machine can load it."""
        module, values = module_to_bytes(self.module_)
        return {
            **self.__dict__,
            "module": module,
            "module_": values,
            "optimizer_": values_to_bytes(self.optimizer_.state_dict()),
            "device": "cpu",
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with own_settings(torch.device("cpu")):
            self.module = self.module_ = module_from_bytes(state["module"], state["module_"])
            with self._current_init_context("optimizer"):
                self.initialize_optimizer()
            self.set_optimizer_state(values_from_bytes(*state["optimizer_"]))


def _shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shapes of tensors by name, and None for other values."""
    return {n: tuple(v.shape) if isinstance(v, Tensor) else None for n, v in values.items()}
