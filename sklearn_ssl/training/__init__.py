"""Training of a task by a net, and its checkpoints.

The loop is skorch's, which is imported when something is trained: the package is quick to import.
"""

from importlib import import_module
from typing import Any

from sklearn_ssl.training._checkpoint import Checkpoint
from sklearn_ssl.training._pickling import FrozenNet

__all__ = ["Checkpoint", "FrozenNet"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    globals()[name] = found = getattr(import_module("sklearn_ssl.training._loop"), name)
    return found
