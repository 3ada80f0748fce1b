"""The range of values that images have."""

import torch
from torch import Tensor

from sklearn_ssl.nn import ChannelScaling

__all__ = ["pixel_range"]


def pixel_range(sample: Tensor) -> ChannelScaling:
    """What takes images in the range of a sample (n, c, h, w) to [0, 1].

    uint8 is divided by 255. Other types are scaled by the smallest and largest value of each
    channel.
    """
    channels = sample.shape[1]
    if sample.dtype == torch.uint8:
        return ChannelScaling([0.0] * channels, [255.0] * channels)
    low = sample.amin((0, 2, 3))
    extent = sample.amax((0, 2, 3)) - low
    if not extent.isfinite().all():
        raise ValueError("the values of X span more than float32 can hold; scale X down first")
    return ChannelScaling(low, torch.where(extent > 0, extent, 1.0))  # a constant channel becomes 0
