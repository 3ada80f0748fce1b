"""Measures of a fitted learner that need no labels: its loss, and views and their features."""

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from sklearn_ssl._utils._device import autocast
from sklearn_ssl._utils._isolation import OwnRandomNumbers, own_settings
from sklearn_ssl.images import warn_of_files

__all__ = ["MeasuresMixin"]


class MeasuresMixin:
    """Mixin for ``pretext_loss``, ``draw_views`` and ``transform_views``."""

    _apply: Any
    _make_views: Any
    _plainly: Any
    _read_images: Any
    _wanted: Any
    device_: Any
    encoder_: Any
    image_shape_: Any
    mirror: Any
    net_: Any

    def pretext_loss(self, X: Any, *, random_state: Any = None) -> float:
        """Compute the mean loss of the pretext task on images, usually held-out ones.

        Batches are as large as in the training, and batch norm takes their statistics, as it does
        there; nothing is learned or kept of them. Use it to compare trainings of one method: each
        method has a loss of its own.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        random_state : int, RandomState instance or None, default=None
            Draws views and whatever else the task draws.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For methods that keep something of each image of the training, which other images lack.
        """
        images = self._read_images(X, broken="replace")
        net = self.net_.copied()  # batch norm moves its averages
        task = net.module_.task
        if task.n_images is not None:
            raise ValueError(
                f"{type(self).__name__} keeps something of each of its {task.n_images} images, so "
                "it has no loss for others"
            )
        size = min(net.batch_size, len(images))
        draws = OwnRandomNumbers(self.device_, _seed(random_state))
        losses = []
        net.module_.train()
        with own_settings(self.device_), torch.no_grad():
            for start in range(0, len(images) - size + 1, size):
                rows = np.arange(start, start + size)
                batch = images.take(rows).to(self.device_), torch.from_numpy(rows).to(self.device_)
                with draws, autocast(self.device_, net.precision):
                    losses.append(net.module_(*batch).loss.float())
        warn_of_files(images, "others were taken in their place")
        return torch.stack(losses).mean().item()

    def draw_views(self, X: Any, n_views: int = 2, *, random_state: Any = None) -> np.ndarray:
        """Draw views of images, by the recipe of the method.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        n_views : int, default=2
            Of each image. Every second one is what the method draws as an image's second view.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n, n_views, height, width, channels), float32
            In [0, 1].
        """

        def pixels(views: list[Tensor]) -> Tensor:
            return torch.stack(views, 1).permute(0, 1, 3, 4, 2).contiguous()

        return self._of_views(X, n_views, random_state, pixels)

    def transform_views(self, X: Any, n_views: int = 2, *, random_state: Any = None) -> np.ndarray:
        """Draw views of images, and compute their features.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        n_views : int, default=2
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n, n_views, n_features_out), float32
            Of ``layer``, pooled by ``pool``. A grid is laid over views as over images, whatever
            their size.
        """
        encoder, wanted, mirror = self.encoder_, self._wanted(self.encoder_), self.mirror

        def features(views: list[Tensor]) -> Tensor:
            return torch.stack([encoder.features(view, wanted, mirror) for view in views], 1)

        return self._of_views(X, n_views, random_state, features)

    def _of_views(self, X: Any, n_views: int, random_state: Any, function: Any) -> np.ndarray:
        images = self._read_images(X)
        views = self._plainly()._make_views(self.image_shape_[:2])
        draws = OwnRandomNumbers(self.device_, _seed(random_state))

        def of_views(pixels: Tensor) -> Tensor:
            with draws:
                drawn = [views(pixels, i % 2) for i in range(n_views)]
            return function(drawn)

        return self._apply(of_views, images)


def _seed(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(2**31 - 1))
