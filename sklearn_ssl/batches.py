"""Images on their way to the network: shuffled batches on the device, and values in [0, 1]."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssl.images import Images

__all__ = ["Batches", "PixelRange"]

_RESIDENT_SHARE = 0.5  # of the free device memory that the images may take
_ROWS_MOVED_AT_ONCE = 4096


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
        for start in range(0, len(rows), _ROWS_MOVED_AT_ONCE):
            chunk = rows[start : start + _ROWS_MOVED_AT_ONCE]
            everything[start : start + len(chunk)] = self.images.take(chunk).to(self.device)
        return everything

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images))[: len(self) * self.batch_size]
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
