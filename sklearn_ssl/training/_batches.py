"""Shuffled batches of images on the device."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl.images import Images

__all__ = ["Batches"]


_RESIDENT_SHARE = 0.5  # of the free device memory that the images may take
_VALUES_MOVED_AT_ONCE = 2**24


class Batches:
    """Shuffled batches of (images, index) on a device; a last, smaller one is dropped.

    Images that fit are moved to the device once. Others are read and moved a batch ahead, in a
    thread.
    """

    def __init__(self, images: Images, batch_size: int, device: torch.device):
        self.images = images
        self.batch_size = batch_size
        self.device = device
        self.resident = self._move_all() if self._fits() else None

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def _fits(self) -> bool:
        if self.device.type == "meta":
            return True
        if self.device.type != "cuda":  # host memory, where the array is already
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.images.nbytes < _RESIDENT_SHARE * free

    def _move_all(self) -> Tensor:
        rows = np.arange(len(self.images))
        first = self.images.take(rows[:1])
        everything = torch.empty(
            (len(rows), *first.shape[1:]),
            dtype=first.dtype,
            device=self.device,
            memory_format=torch.channels_last,
        )
        size = max(1, _VALUES_MOVED_AT_ONCE // math.prod(self.images.shape))
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            everything[start : start + len(chunk)] = self.images.take(chunk).to(self.device)
        return everything

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw an order now, and give the batches in it."""
        return self._in_order(torch.randperm(len(self.images))[: len(self) * self.batch_size])

    def _in_order(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if self.resident is not None:
            for index in order.to(self.device).split(self.batch_size):
                yield self.resident[index], index
            return
        indices = order.split(self.batch_size)
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, indices[0])
            for index in indices[1:]:
                batch, ahead = ahead.result(), reader.submit(self._read, index)
                yield self._moved(batch)
            yield self._moved(ahead.result())

    def _read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """In the reader's thread, which leaves the device to the main thread."""
        images = self.images.take(index.numpy())
        if self.device.type == "cuda":
            return images.pin_memory(), index.pin_memory()
        return images, index

    def _moved(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        pinned = self.device.type == "cuda"  # what is not must not be overwritten before it moved
        images, index = (part.to(self.device, non_blocking=pinned) for part in batch)
        return images, index
