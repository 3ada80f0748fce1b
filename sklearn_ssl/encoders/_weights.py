"""Pretrained weights, fetched and made to fit."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["adapt_first_conv", "downloading"]


@contextlib.contextmanager
def downloading(encoder: str, folder: str) -> Iterator[None]:
    """Say of a failed download which weights were wanted, and where they may be put by hand."""
    try:
        yield
    except OSError as error:  # the network's errors and those of files are of this kind
        raise OSError(
            f"the weights of encoder={encoder!r} are not in {folder} and could not be downloaded: "
            f"{error}. Connect to the internet once, or copy this folder from a machine that has "
            "them; weights=None starts from random weights"
        ) from error


def adapt_first_conv(model: nn.Module, channels: int) -> None:
    """Make a model for RGB take ``channels`` channels, keeping what its first layer has learned.

    One or two channels share the sum of the three filters; more than three take them in turn, each
    divided by how often it is used. An image of equal channels gets the response of a gray one.
    """
    conv: Any
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == channels:
        return
    fresh = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        if channels < conv.in_channels:
            weight = conv.weight.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
        else:
            color = torch.arange(channels) % conv.in_channels
            copies = (color[:, None] == color).sum(1)
            weight = conv.weight[:, color] / copies[:, None, None]
        fresh.weight.copy_(weight)
        if conv.bias is not None and fresh.bias is not None:
            fresh.bias.copy_(conv.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)
