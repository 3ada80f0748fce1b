"""Pixels as they come in to values in [0, 1], and back."""

import torch
from torch import Tensor, nn

__all__ = ["PixelRange"]


class PixelRange(nn.Module):
    """Pixels as they come in to values in [0, 1], and back.

    uint8 is divided by 255. Other types are scaled by the smallest and largest value of each
    channel of the training images.
    """

    low: Tensor
    extent: Tensor

    def __init__(self, low: Tensor, extent: Tensor):
        super().__init__()
        self.register_buffer("low", low.float().view(1, -1, 1, 1))
        self.register_buffer("extent", extent.float().view(1, -1, 1, 1))

    @classmethod
    def of(cls, sample: Tensor) -> "PixelRange":
        """Learn the range of a sample (n, c, h, w)."""
        if sample.dtype == torch.uint8:
            return cls(torch.zeros(sample.shape[1]), torch.full((sample.shape[1],), 255.0))
        low = sample.amin((0, 2, 3))
        extent = sample.amax((0, 2, 3)) - low
        if not extent.isfinite().all():
            raise ValueError("the values of X span more than float32 can hold; scale X down first")
        return cls(low, torch.where(extent > 0, extent, 1.0))  # a constant channel becomes 0

    @property
    def high(self) -> float:
        """The largest value of the training images, or 255 for uint8."""
        return (self.low + self.extent).max().item()

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.low) / self.extent

    def inverse(self, images: Tensor) -> Tensor:
        return images * self.extent + self.low
