"""State of a net, for other options and devices, copies, pickles and files."""

import copy
from typing import Any, Self

import torch
from skorch.history import History
from torch import Tensor

from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl._utils._taken_apart import as_arrays, as_tensors, put_together, taken_apart
from sklearn_ssl.nn import make_optimizer

__all__ = ["StateMixin"]


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
        self.history = History(kept["history"])

    def copied(self) -> Self:
        """Copy all but the user's callbacks, which may hold open files."""
        kept = (self.optimizer, *(callback for _, callback in self.callbacks_))
        return copy.deepcopy(self, {id(given): given for given in kept})

    def __getstate__(self) -> dict[str, Any]:
        """Return arrays in place of tensors, so that any machine can load them."""
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


def _shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """Return the shapes of tensors by name, and None for other values."""
    return {n: tuple(v.shape) if isinstance(v, Tensor) else None for n, v in values.items()}
