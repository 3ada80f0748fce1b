"""State of nets: in pickles, copies, files, and on other devices.

Pickles hold tensors as the bytes of a file, which any machine can load, and which joblib can hash:
torch's own pickles have addresses of memory in them, and optimizers are dictionaries whose keys are
tensors.
"""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._storage import from_bytes, to_bytes
from sklearn_ssl._utils._torch import own_settings
from sklearn_ssl.nn import make_optimizer


def taken_apart(module: nn.Module) -> tuple[nn.Module, bytes]:
    """Return a copy of a module without its parameters and buffers, and their values."""
    tensors = [*module.parameters(), *module.buffers()]
    blanks: dict[int, Any] = {id(tensor): _Blank(row, tensor) for row, tensor in enumerate(tensors)}
    return copy.deepcopy(module, blanks), to_bytes(tensors)


def put_together(skeleton: nn.Module, content: bytes) -> nn.Module:
    """Invert :func:`taken_apart`, on the CPU."""
    values, filled = from_bytes(content), dict[int, Any]()
    for part in skeleton.modules():
        for blank in (*part._parameters.values(), *part._buffers.values()):
            if isinstance(blank, _Blank) and id(blank) not in filled:
                filled[id(blank)] = blank.filled(values[blank.row])
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


class FrozenNet:
    """Counterpart of ``PretextNet`` without a training, for :func:`apply`, pickles and files.

    Parameters
    ----------
    pixels : PixelRange
        Scales pixels to [0, 1].
    encoder : Encoder
    device : torch.device
    precision : str
        As of the learners.
    deterministic : bool
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
        """Encoder that is applied."""
        return self.module_.encoder

    def move_to(self, device: torch.device) -> None:
        """Move the module."""
        self.device = str(device)
        self.module_.to(device)

    def kept(self) -> dict[str, Any]:
        """Return what there is besides the module: nothing."""
        return {}

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore what :meth:`kept` gave: nothing."""

    def __getstate__(self) -> dict[str, Any]:
        module, values = taken_apart(self.module_)
        return {**self.__dict__, "module_": (module, values), "device": "cpu"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with own_settings(torch.device("cpu")):
            self.module_ = put_together(*state["module_"])


class StateMixin:
    """Mixin for nets that continue with other options, move, are copied, and pickled as arrays."""

    module: Any
    module_: Any
    optimizer: Any
    optimizer_: Any
    batch_size: int
    callbacks_: list
    history: Any
    lr: float
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
        """Load the optimizer's state, laid out in memory as the parameters are.

        torch's fused optimizers go through memory side by side, and mix values of other layouts up.
        """
        self.optimizer_.load_state_dict(state)
        for parameter, values in self.optimizer_.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def check_optimizer_state(self, state: dict[str, Any]) -> None:
        """Raise ValueError if ``state`` cannot be that of this optimizer.

        Fused optimizers of torch write where the parameters' sizes say, whatever sizes these have.
        """
        own = self.optimizer_.state_dict()
        groups, wanted = state["param_groups"], own["param_groups"]
        if [group["params"] for group in groups] != [group["params"] for group in wanted]:
            raise ValueError("the optimizer's state is of other parameters")
        if [set(group) for group in groups] != [set(group) for group in wanted]:
            raise ValueError("the optimizer's state is of another optimizer")
        expected = self._state_after_a_step()
        if expected is None:
            return
        for row, values in state["state"].items():
            found, right = _shapes(values), _shapes(expected.get(row, {}))
            if found != right:
                raise ValueError(
                    f"the optimizer's state of parameter {row} has shapes {found} and not {right}"
                )

    def _state_after_a_step(self) -> dict[int, dict[str, Any]] | None:
        """Return the optimizer's state after a step, or None if it cannot step without values.

        All that have a name here and torch's fused ones can. A class that cannot checks its state
        itself.
        """
        groups = [
            {**group, "params": [torch.empty_like(p, device="meta") for p in group["params"]]}
            for group in self.optimizer_.param_groups
        ]
        for group in groups:
            if "fused" in group:
                group["fused"] = False  # which the meta device does not know
            for p in group["params"]:
                p.requires_grad_().grad = torch.empty_like(p)
        try:
            optimizer = make_optimizer(self.optimizer, groups, self.lr, self.weight_decay)
            optimizer.step()
        except Exception:  # in a class of the user, which may do anything without values
            if isinstance(self.optimizer, str):
                raise
            return None
        return optimizer.state_dict()["state"]

    def kept(self) -> dict[str, Any]:
        """Return what a continued fit needs, besides the module."""
        return {
            "optimizer": self.optimizer_.state_dict(),
            "history": [dict(row) for row in self.history],
            "batch_size": self.batch_size,
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore what :meth:`kept` gave."""
        self.check_optimizer_state(kept["optimizer"])
        self.set_optimizer_state(kept["optimizer"])
        self.set_history(kept["history"])

    def set_history(self, rows: list[dict[str, Any]]) -> None:
        """Take over the history of another net."""
        self.history = type(self.history)(rows)

    def copied(self) -> Self:
        """Copy all but the user's callbacks, which may hold open files."""
        kept = (self.optimizer, *(callback for _, callback in self.callbacks_))
        return copy.deepcopy(self, {id(given): given for given in kept})

    def __getstate__(self) -> dict[str, Any]:
        """Return bytes in place of tensors, so that any machine can load them."""
        module, values = taken_apart(self.module_)
        return {
            **self.__dict__,
            "module": module,
            "module_": values,
            "optimizer_": to_bytes(self.optimizer_.state_dict()),
            "device": "cpu",
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with own_settings(torch.device("cpu")):
            self.module = self.module_ = put_together(state["module"], state["module_"])
            with self._current_init_context("optimizer"):
                self.initialize_optimizer()
            self.set_optimizer_state(from_bytes(state["optimizer_"]))


def _shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shapes of tensors by name, and None for other values."""
    return {n: tuple(v.shape) if isinstance(v, Tensor) else None for n, v in values.items()}
