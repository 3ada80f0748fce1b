"""The contract of a pretext task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl.nn import Queue

__all__ = ["PretextTask", "TaskOutput"]


@dataclass
class TaskOutput:
    """Output of a task for a batch.

    Parameters
    ----------
    loss : Tensor, a scalar
        What is minimized.
    terms : dict of str to scalar Tensor, optional
        Other values worth a place in ``history_``.
    state : object, optional
        What :meth:`PretextTask.after_step` needs of this batch, detached.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    state: Any = None


class PretextTask(nn.Module, ABC):
    """Views, heads and loss of a pretext method, on an encoder that it is given.

    All state lives in parameters and persistent buffers, so that it is saved and resumed. What is
    drawn by torch's functions comes from generators of the fit. :meth:`forward` leaves queues,
    banks and averages as they are, :meth:`after_step` moves them. A step never reads a value back
    from the device: no ``.item()``, no indexing by a mask, no tensor made on the CPU.

    Parameters
    ----------
    encoder : Encoder
        Kept as ``self.encoder``; features are read from this attribute after training.
    views : callable
        Takes images in [0, 1] and draws a view, or several, of each.
    """

    encoder: Any
    views: Callable[..., Any]
    n_images: int | None = None  # in the training set, for tasks that keep something of each

    @property
    def keeps_images(self) -> bool:
        """Return whether something of the images themselves is kept, in a bank or a queue."""
        return self.n_images is not None or any(isinstance(part, Queue) for part in self.modules())

    def __init__(self, encoder: nn.Module, views: Callable[..., Any]):
        super().__init__()
        self.encoder = encoder
        self.views = views

    @abstractmethod
    def forward(self, images: Tensor, index: Tensor) -> TaskOutput:
        """Compute the loss of one batch.

        Parameters
        ----------
        images : float Tensor of shape (n, c, h, w)
            Images with values in [0, 1], without augmentation.
        index : int64 Tensor of shape (n,)
            Positions of the images in the training set.

        Returns
        -------
        TaskOutput
        """

    def pair(self, images: Tensor) -> Tensor:
        """Draw two views of each image, (2n, c, h, w): all first ones, then all second ones."""
        return torch.cat([self.views(images, view) for view in (0, 1)])

    def embed_crops(self, images: Tensor) -> Tensor:
        """Compute embeddings (v * n, d) of the two views and small crops of ``MultiCrop``."""
        return torch.cat([self.encoder.embed(crops) for crops in self.views(images)])

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return how much larger than this shape files are decoded, to crop views from them."""
        return self.views.zoom_for(image_shape) if hasattr(self.views, "zoom_for") else 1.0

    def after_step(self, output: TaskOutput, progress: float | None) -> None:
        """Update what is not learned by gradient (averages, queues), after the optimizer's step.

        ``output`` is what :meth:`forward` returned for the batch. ``progress`` is in (0, 1]. It is
        None where no end is known, as in ``partial_fit``: then schedules stay at their start, and
        what waits for a share of the training has waited.
        """

    def forget(self) -> None:
        """Drop what is kept of images, for a continued fit to other images."""
        for part in self.modules():
            if isinstance(part, Queue):
                part.reset()
