"""Tensors made on their device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """A small tensor of the type of ``like``, filled on its device.

    ``torch.tensor`` would copy it from the CPU, and wait for a GPU to finish what it is doing.
    """
    return torch.cat([like.new_full((1,), value) for value in values])
