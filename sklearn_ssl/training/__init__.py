"""Training loop for pretext tasks, and checkpoints.

The loop is based on skorch, which is imported only for training, to keep the package quick to
import.
"""

from importlib import import_module
from typing import Any

from sklearn_ssl.training._checkpoint import CheckpointFolder
from sklearn_ssl.training._pickling import FrozenNet

__all__ = ["CheckpointFolder", "FrozenNet"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    globals()[name] = found = getattr(import_module("sklearn_ssl.training._loop"), name)
    return found
