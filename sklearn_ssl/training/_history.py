"""Records of each epoch."""

import math
from typing import Any

from sklearn_ssl.exceptions import DivergenceError

__all__ = ["HistoryMixin"]


class HistoryMixin:
    """Mixin for the history of a net, under the names that skorch and the learners know."""

    history: Any
    lr: float
    precision: str
    warmup: float

    def _record(self, columns: dict[str, list[float]]) -> None:
        """Record the values of batches, and their means for the epoch, by skorch's names."""
        for batch, loss in zip(self.history[-1, "batches"], columns["loss"], strict=True):
            batch["train_loss"] = loss
        earlier = [row["train_loss"] for row in self.history[:-1]]
        for name, values in columns.items():
            mean = sum(values) / len(values)
            if name != "loss":
                self.history.record(name, mean)
                continue
            for alias in ("train_loss", "valid_loss"):
                self.history.record(alias, mean)
                self.history.record(f"{alias}_best", mean <= min(earlier, default=math.inf))

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergenceError(
                f"the {what} became {value} in epoch {len(self.history)}. Try a smaller lr "
                f"(it is {self.lr}), a longer warmup (it is {self.warmup}) or "
                f"precision='float32' (it is {self.precision!r})"
            )

    def epochs(self) -> list[dict[str, Any]]:
        """Return the record of each epoch, without single batches and skorch's own entries."""
        own = ("batches", "train_loss_best", "valid_loss", "valid_loss_best")
        return [{k: v for k, v in row.items() if k not in own} for row in self.history]
