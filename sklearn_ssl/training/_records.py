"""What is known of epochs, in skorch's history."""

import math
from typing import Any

from skorch.history import History

__all__ = ["epochs_of", "record_columns"]


def record_columns(history: History, columns: dict[str, list[float]]) -> None:
    """Values of each batch, and their means for the epoch, under the names skorch knows."""
    for batch, loss in zip(history[-1, "batches"], columns["loss"], strict=True):
        batch["train_loss"] = loss
    earlier = [row["train_loss"] for row in history[:-1]]
    for name, values in columns.items():
        mean = sum(values) / len(values)
        if name != "loss":
            history.record(name, mean)
            continue
        for alias in ("train_loss", "valid_loss"):
            history.record(alias, mean)
            history.record(f"{alias}_best", mean <= min(earlier, default=math.inf))


def epochs_of(history: History) -> list[dict[str, Any]]:
    """What is known of each epoch, without single batches and skorch's own entries."""
    own = ("batches", "train_loss_best", "valid_loss", "valid_loss_best")
    return [{k: v for k, v in row.items() if k not in own} for row in history]
