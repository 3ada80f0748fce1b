"""State of a training: all that its next step depends on, written and read back."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from skorch.history import History
from torch import Tensor

from sklearn_ssl._utils._checkpoints import Checkpoint
from sklearn_ssl._utils._isolation import OwnRandomNumbers
from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl._utils._storage import DAMAGED

__all__ = ["Checkpoints", "Epoch"]

_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")  # of images, files and code


@dataclass
class Epoch:
    """Epoch that is under way.

    Parameters
    ----------
    order : Tensor of int
        Rows of its images.
    records : list of dict of str to scalar Tensor
        What was said of each batch so far.
    seconds : float
    """

    order: Tensor
    records: list[dict[str, Tensor]] = field(default_factory=list)
    seconds: float = 0.0

    def columns(self) -> dict[str, Tensor]:
        """Return the records by name."""
        return {name: torch.stack([r[name] for r in self.records]) for name in self.records[0]}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> "Epoch":
        """Make an epoch from its order, columns and seconds."""
        columns = {name: values.to(device) for name, values in state["columns"].items()}
        rows = zip(*columns.values(), strict=True)
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        return cls(state["order"], records, state["seconds"])


class Checkpoints:
    """Checkpoints of one training; of several processes the first one writes them.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where, and how often. Its folder is open.
    training : dict of str to object
        What tells this training from others.
    draws : OwnRandomNumbers
        Its random numbers.
    """

    def __init__(self, checkpoint: Checkpoint, training: dict[str, Any], draws: OwnRandomNumbers):
        self.checkpoint = checkpoint
        self.training = training
        self.draws = draws
        self.epochs_since = 0
        self.written = time.monotonic()

    def resume(self, net: Any, epochs: int, n_images: int) -> int:
        """Load the last checkpoint into the net, and return the number of epochs that are left.

        Raises
        ------
        ValueError
            If the folder belongs to another training, or if what is in it does not fit.
        """
        state = current_ranks().first(self.checkpoint.read)
        if state is None:
            self.write(net)  # so that a disk that is full says so now
            return epochs
        self._compare(state)
        try:
            return self._take(net, state, epochs, n_images)
        except DAMAGED as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(
                f"the checkpoints in {self.checkpoint.path} do not fit this training: "
                f"{kind}{error}; delete them to train anew"
            ) from error

    def _take(self, net: Any, state: dict[str, Any], epochs: int, n_images: int) -> int:
        net.module_.load_state_dict(state["module"])
        net.check_optimizer_state(state["optimizer"])
        net.set_optimizer_state(state["optimizer"])
        done = len(state["history"]) - len(net.history)
        begun = done + (state["epoch"] is not None)
        timed = net.progress_.seconds is not None
        if begun > epochs:
            raise ValueError(f"they have {begun} epochs, which is more than max_epochs={epochs}")
        net.history = History(state["history"])
        self.draws.set_state(state["generators"])
        for name, callback in net.callbacks_:
            if name in state["callbacks"] and hasattr(callback, "restore"):
                callback.restore(state["callbacks"][name])
        spent = sum(row["seconds"] for row in net.history[len(net.history) - done :])
        if state["epoch"] is not None:
            net.begun_ = Epoch.of(state["epoch"], torch.device(net.device))
            _check_rows(net.begun_.order, n_images)
            spent += net.begun_.seconds
        net.progress_.resume(state["steps"], spent)
        stopped = state["finished"] and (timed or done < state["training"]["max_epochs"])
        return 0 if stopped else epochs - done

    def _compare(self, state: Any) -> None:
        found = state.get("training") if isinstance(state, dict) else None
        other = found if isinstance(found, dict) else {}
        # of a constant schedule, every training is the beginning of longer ones
        free = {"max_epochs"} if self.training.get("schedule") == "constant" else set()
        differences = [
            f"{name} was {other.get(name)!r} and is {self.training.get(name)!r}"
            for name in {**other, **self.training}
            if name not in {*free, "pixels"} and other.get(name) != self.training.get(name)
        ]
        pairs = zip(other.get("pixels", ()), self.training["pixels"], strict=False)
        if not differences and any(None not in pair and len(set(pair)) > 1 for pair in pairs):
            differences = ["images have other pixels"]  # what cannot be read may be any image
        if differences:
            differences = [_DIGEST.sub(r"\1...", difference) for difference in differences]
            raise ValueError(
                f"the checkpoints in {self.checkpoint.path} are of another training: "
                f"{'; '.join(differences)}. Go on with the same, or give a new one another folder"
            )

    def write_if_due(self, net: Any, epoch: Epoch | None, now: bool) -> None:
        """Write a checkpoint if one is due, within an epoch or between two (None)."""
        every, seconds = self.checkpoint.every_epochs, self.checkpoint.every_seconds
        self.epochs_since += epoch is None
        due = every is not None and self.epochs_since >= every
        late = seconds is not None and time.monotonic() - self.written >= seconds
        if now or due or late:
            self.write(net, epoch)

    def write(self, net: Any, epoch: Epoch | None = None, finished: bool = False) -> None:
        """Write a checkpoint."""
        if current_ranks().rank:
            return
        rows = list(net.history)
        begun = None
        if epoch is not None:
            rows = rows[:-1]
            begun = {"order": epoch.order, "columns": epoch.columns(), "seconds": epoch.seconds}
        values = {
            "training": self.training,
            "finished": finished,
            "steps": net.progress_.done,
            "history": [dict(row) for row in rows],
            "module": dict(net.module_.state_dict()),
            "optimizer": net.optimizer_.state_dict(),
            "generators": self.draws.state(),
            "callbacks": {n: cb.kept() for n, cb in net.callbacks_ if hasattr(cb, "kept")},
            "epoch": begun,
        }
        self.checkpoint.write(net.progress_.done, values)
        self.epochs_since, self.written = 0, time.monotonic()


def _check_rows(order: Tensor, n_images: int) -> None:
    """Raise ValueError unless the order consists of rows of the images, each at most once."""
    if order.ndim != 1 or order.dtype != torch.int64 or len(order.unique()) != len(order):
        raise ValueError("the order of the images is none")
    if len(order) and not 0 <= int(order.min()) <= int(order.max()) < n_images:
        raise ValueError(f"the order has rows that {n_images} images do not have")
