"""Shift and scaling of channels, and its inverse."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ChannelScaling"]


class ChannelScaling(nn.Module):
    """Module for ``(images - offset) / scale``, channel by channel.

    It takes pixels to [0, 1], and images in [0, 1] to zero mean and unit variance.

    Parameters
    ----------
    offset, scale : sequence of float
        One value a channel.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl.nn import ChannelScaling
    >>> scaling = ChannelScaling([0.0], [255.0])
    >>> pixels = torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    >>> scaling(pixels)[0, 0, 0]
    tensor([0.2000, 0.2000])
    >>> scaling.inverse(scaling(pixels))[0, 0, 0]
    tensor([51., 51.])
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Sequence[float] | Tensor, scale: Sequence[float] | Tensor):
        super().__init__()
        for name, values in (("offset", offset), ("scale", scale)):
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Scale images (n, c, h, w) of any type."""
        return (images - self.offset) / self.scale

    def inverse(self, images: Tensor) -> Tensor:
        """Invert :meth:`forward`, and return floats."""
        return images * self.scale + self.offset
