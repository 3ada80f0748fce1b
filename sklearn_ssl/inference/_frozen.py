"""Net of an encoder that is applied and not trained."""

from typing import Any

import torch
from torch import nn

from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl._utils._taken_apart import put_together, taken_apart

__all__ = ["FrozenNet"]


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
