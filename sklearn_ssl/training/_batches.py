"""Shuffled batches of images on the device."""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl.images import Images, read_ahead

__all__ = ["Batches"]


_RESIDENT_SHARE = 0.5  # of the free device memory that the images may take
_VALUES_MOVED_AT_ONCE = 2**24


class Batches:
    """Shuffled batches of (images, index) on a device; a last, smaller one is dropped.

    Images that fit are moved to the device once. Others are read ahead, in a thread. Batches of
    files are (whole images, index, sizes), as of :meth:`Images.take_whole`. Of several processes
    each reads its share of a batch, and all get the whole batch. The index of a file that was
    skipped is that of the image in its place.

    Parameters
    ----------
    images : Images
    batch_size : int
    device : torch.device
    zoom : float, default=1.0
        For files.
    """

    def __init__(self, images: Images, batch_size: int, device: torch.device, zoom: float = 1.0):
        self.images = images
        self.zoom = zoom
        self.batch_size = batch_size
        self.device = device
        self.ranks = current_ranks()
        self.resident = self.shown = None
        if self._fits():
            self.resident = self._move_all()
            rows = np.arange(len(images))
            shown = images.shown_by(rows)
            if (shown != rows).any():
                self.shown = torch.from_numpy(shown).to(device)

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def _fits(self) -> bool:
        if self.device.type == "meta":
            return True
        if self.device.type != "cuda" or self.images.are_files:  # host memory is where arrays are
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

    def draw_order(self) -> Tensor:
        """Draw the rows of an epoch, in random order."""
        return torch.randperm(len(self.images))[: len(self) * self.batch_size]

    def in_order(self, order: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of these rows."""
        if self.resident is not None:
            for index in order.to(self.device).split(self.batch_size):
                yield self.resident[index], index if self.shown is None else self.shown[index]
            return
        for batch in read_ahead(self._read, order.split(self.batch_size)):
            yield self._moved(batch)

    def _read(self, index: Tensor) -> list[Tensor]:
        """Read a batch in the reader's thread, which leaves the device to the main thread."""
        rows = self.ranks.part(index).numpy()
        if self.images.are_files:
            images, *sizes = self.images.take_whole(rows, self.zoom)
        else:
            images, sizes = self.images.take(rows), []
        batch = [images, torch.from_numpy(self.images.shown_by(rows)), *sizes]
        return [part.pin_memory() for part in batch] if self.device.type == "cuda" else batch

    def _moved(self, batch: list[Tensor]) -> tuple[Tensor, ...]:
        pinned = self.device.type == "cuda"  # what is not must not be overwritten before it moved
        images, index, *sizes = (part.to(self.device, non_blocking=pinned) for part in batch)
        if (
            self.images.are_files and self.ranks.size > 1
        ):  # as large as the largest one of all processes
            largest = np.max(self.ranks.gathered(images.shape[2:]), axis=0).tolist()
            height, width = (
                want - is_ for want, is_ in zip(largest, images.shape[2:], strict=True)
            )
            images = F.pad(images, (0, width, 0, height))
        return tuple(map(self.ranks.whole, (images, index, *sizes)))
