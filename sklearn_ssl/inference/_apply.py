"""A function of images, applied to all of them in chunks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl._utils._device import (
    autocast,
    deterministic_kernels,
    evaluation,
    threads_that_survive_a_fork,
)
from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl.images import Images, read_ahead

__all__ = ["apply"]


def apply(
    net: Any,
    function: Callable[..., Tensor],
    images: Images,
    *arguments: np.ndarray,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Apply a function of images in [0, 1] to all images, and put the results in an array.

    Chunks have one size, the last one padded, and the network is in evaluation mode: the same image
    then gives the same bits whatever the images around it are.

    Parameters
    ----------
    net : PretextNet
        Scales the pixels; its device and precision are those of the function.
    function : callable
        Takes a float tensor (n, c, h, w), and a tensor of n rows for each of ``arguments``.
    images : Images
    *arguments : ndarray
        With a row for each image.
    finish : callable, optional
        What becomes of the results of a chunk, as an array.

    Returns
    -------
    ndarray
        A row for each image.
    """
    device = torch.device(net.device)
    pixels_a_chunk = 2**16 if device.type == "cpu" else 2**22
    height, width, _ = images.shape
    size = min(max(1, pixels_a_chunk // (height * width)), 512)
    results = np.empty(0)

    def rows_from(start: int) -> np.ndarray:
        return np.minimum(np.arange(start, start + size), len(images) - 1)

    def read(start: int) -> Tensor:
        return images.take(rows_from(start))

    forced = deterministic_kernels(device, net.deterministic)
    with (
        threads_that_survive_a_fork(),
        own_settings(device),
        torch.no_grad(),
        forced,
        evaluation(net.module_),
    ):
        starts = range(0, len(images), size)
        ahead = read_ahead(read, starts, images.in_memory)
        for start, batch in zip(starts, ahead, strict=True):
            batch, rows = batch.to(device), rows_from(start)
            more = [torch.from_numpy(argument[rows]).to(device) for argument in arguments]
            with autocast(device, net.precision):
                result = function(net.module_.pixels(batch), *more)
            chunk = result[: len(images) - start].cpu().numpy()
            if finish is not None:
                chunk = finish(chunk)
            if start == 0:
                results = np.empty((len(images), *chunk.shape[1:]), chunk.dtype)
            results[start : start + len(chunk)] = chunk
    return results
