"""Module that a net trains: a task, and the scaling of pixels for it."""

from typing import Any

from torch import Tensor, nn

from sklearn_ssl.nn import ChannelScaling
from sklearn_ssl.views import CenteredImages

__all__ = ["PretextModule"]


class PretextModule(nn.Module):
    """Task with a scaling of pixels to [0, 1] in front of it."""

    def __init__(self, pixels: ChannelScaling, task: Any):
        super().__init__()
        self.pixels = pixels
        self.task = task

    def images(self, pixels: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Scale pixels to [0, 1], and bring images to one size if they have several."""
        images = self.pixels(pixels)
        if sizes is None:
            return images
        return CenteredImages.of(images, sizes, self.task.encoder.image_shape[:2])

    def forward(self, pixels: Tensor, index: Tensor, sizes: Tensor | None = None) -> Any:
        return self.task(self.images(pixels, sizes), index)
