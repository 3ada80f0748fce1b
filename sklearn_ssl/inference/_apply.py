"""Application of a function of images to all of them, in chunks."""

from collections.abc import Callable, Iterator
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

_FILES_AT_ONCE = 128


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
    forced = deterministic_kernels(device, net.deterministic)
    with (
        threads_that_survive_a_fork(),
        own_settings(device),
        torch.no_grad(),
        forced,
        evaluation(net.module_),
    ):
        for start, batch in zip(range(0, len(images), size), _chunks(images, size), strict=True):
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            batch = batch.to(device)
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


def _chunks(images: Images, size: int) -> Iterator[Tensor]:
    """Yield all images, ``size`` at a time; the last one fills up a smaller chunk.

    Files are read more at a time, so that all decoders have work.
    """
    n = len(images)
    at_once = size if images.in_memory else size * -(-_FILES_AT_ONCE // size)
    starts = range(0, n, at_once)

    def read(start: int) -> Tensor:
        return images.take(np.arange(start, min(start + at_once, n)))

    for block in read_ahead(read, starts, images.in_memory):
        for chunk in block.split(size):
            if len(chunk) < size:
                filled = torch.arange(size).clamp(max=len(chunk) - 1)
                chunk = chunk.permute(0, 2, 3, 1)[filled].permute(0, 3, 1, 2)
            yield chunk
