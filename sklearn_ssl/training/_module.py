"""What is trained: a task, with the scaling of its pixels."""

from typing import Any

from torch import Tensor, nn

from sklearn_ssl.nn import ChannelScaling

__all__ = ["PretextModule"]


class PretextModule(nn.Module):
    """Pixels as they come in, scaled to [0, 1], to what a task says of them."""

    def __init__(self, pixels: ChannelScaling, task: Any):
        super().__init__()
        self.pixels = pixels
        self.task = task

    def forward(self, pixels: Tensor, index: Tensor) -> Any:
        return self.task(self.pixels(pixels), index)
