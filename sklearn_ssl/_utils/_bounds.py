"""Limit on the size of networks that are built to be filled from a file."""

from collections.abc import Iterable
from threading import get_ident
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

__all__ = ["NoLargerThan"]

_SOME = 2**27  # values that are built and dropped: the head of VGG-19 has 1.2e8
_MADE = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


class NoLargerThan(TorchFunctionMode):
    """A mode in which a network much larger than some tensors cannot be built.

    A few bytes can name a network, or a number of units, that takes all memory there is. Within
    this mode the first layer that is too much raises ValueError, before its memory is touched.

    Parameters
    ----------
    tensors : iterable of Tensor
        Parameters and buffers that the network is to be filled with.
    image : int
        Values of an image; a network may be tried with blank ones.
    """

    def __init__(self, tensors: Iterable[Tensor], image: int):
        super().__init__()
        self.left = 2 * sum(tensor.numel() for tensor in tensors) + _SOME
        self.at_once = self.left + 8 * image

    def __enter__(self) -> Self:
        thread = get_ident()  # torch calls the hook in all of them

        def count(_module: nn.Module, _name: str, parameter: Any) -> None:
            if parameter is not None and get_ident() == thread:
                self.left -= parameter.numel()
                _check(self.left >= 0)

        self.hook = register_module_parameter_registration_hook(count)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.hook.remove()
        super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _MADE and kwargs.get("out") is None:
            drawn = {"generator": None} if "generator" in kwargs else {}
            blank = func(*args, **{**kwargs, **drawn, "device": "meta"})
            _check(blank.numel() <= self.at_once)
        return func(*args, **kwargs)


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("the arguments ask for a network that is larger than the one in the file")
