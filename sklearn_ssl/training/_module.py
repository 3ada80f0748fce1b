"""What a net trains: a task, and what scales pixels for it."""

from typing import Any

from torch import Tensor, nn

from sklearn_ssl.nn import ChannelScaling
from sklearn_ssl.views import CenteredImages

__all__ = ["PretextModule"]


class PretextModule(nn.Module):
    """Pixels as they come in, scaled to [0, 1], to what a task says of them."""

    def __init__(self, pixels: ChannelScaling, task: Any):
        super().__init__()
        self.pixels = pixels
        self.task = task

    def images(self, pixels: Tensor, sizes: Tensor | None = None) -> Tensor:
        """In [0, 1], and all of one size if they were not."""
        images = self.pixels(pixels)
        if sizes is None:
            return images
        return CenteredImages.of(images, sizes, self.task.encoder.image_shape[:2])

    def forward(self, pixels: Tensor, index: Tensor, sizes: Tensor | None = None) -> Any:
        return self.task(self.images(pixels, sizes), index)
