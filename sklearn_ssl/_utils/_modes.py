"""Training and evaluation mode of modules."""

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluation"]


@contextlib.contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """All parts in evaluation mode; those that were in training mode are put back."""
    trained = [part for part in module.modules() if part.training]
    for part in trained:
        part.training = False
    try:
        yield
    finally:
        for part in trained:
            part.training = True
