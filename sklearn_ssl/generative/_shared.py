"""Shared parts of generative learners, which output images besides features."""

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_ssl._utils._torch import autocast, draw_seed, isolated
from sklearn_ssl.base import PretextTask, apply
from sklearn_ssl.encoders import Encoder
from sklearn_ssl.images import Form, Images
from sklearn_ssl.nn import VectorDecoder
from sklearn_ssl.views import Views

_DRAWN_AT_ONCE = 256  # samples


class CodeTask(PretextTask):
    """Base of tasks that pass images through a low-dimensional code, at the size of the views.

    Parameters
    ----------
    encoder : Encoder
    views : Views
    code_dim : int
        Dimension of the code.
    """

    def __init__(self, encoder: Encoder, views: Views, code_dim: int):
        super().__init__(encoder, views)
        channels = encoder.image_shape[2]
        self.size = views.size_for(encoder.image_shape)
        self.code_dim = code_dim
        self.map_shape = encoder.shape_of(self.size)
        self.decoder = VectorDecoder(code_dim, self.map_shape, channels, self.size)

    @abstractmethod
    def codes(self, images: Tensor) -> Tensor:
        """Compute codes (n, code_dim) of images in [0, 1]."""

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to standardized images at the size of the views, for the loss."""
        return self.decoder(codes, self.size).float()

    def _draw(self, codes: Tensor) -> Tensor:
        images = self.encoder.standardize.inverse(self.decode(codes))
        return F.interpolate(images, self.encoder.image_shape[:2], mode="bilinear")

    def reconstruct(self, images: Tensor) -> Tensor:
        """Pass images in [0, 1] through the code."""
        images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return self._draw(self.codes(images))

    def sample(self, n: int, device: torch.device) -> Tensor:
        """Draw images with codes from the standard normal distribution."""
        return self._draw(torch.randn(n, self.code_dim, device=device))


class RedrawMixin:
    """Mixin for learners that map images to images."""

    net_: Any

    @property
    def _task(self) -> Any:
        check_is_fitted(self)
        return self.net_.module_.task

    def _redraw(
        self: Any, X: Any, function: Callable, masks: Callable[[int], np.ndarray] | None = None
    ) -> Any:
        """Apply a function to images in [0, 1], and return the results in the form of X.

        ``masks``, if given, makes masks for the number of images, and the function accepts them,
        too. Where they are false, X stays unchanged.
        """
        images = self._read_images(X)
        form = Form(X, images, self.channel_order)
        arguments = [masks(len(images))] if masks else []
        pixels = self.net_.module_.pixels

        def redraw(values, *more):
            return pixels.inverse(function(values, *more).float().clamp(0, 1))

        def finish(chunk):
            return form.convert(pixels.restore(chunk))

        drawn = apply(self.net_, redraw, images, *arguments, finish=finish)
        if masks:
            form.paste(drawn, *arguments)
        return form.wrap(drawn)


class ReconstructionMixin(RedrawMixin):
    """Mixin that adds ``reconstruct`` to learners whose task has a method of this name."""

    def reconstruct(self, X: Any) -> Any:
        """Reconstruct images with the network.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.

        Returns
        -------
        array or tensor
            Images in the shape, type and value range of ``X``; a 2-D array for a data frame.
        """
        return self._redraw(X, self._task.reconstruct)


class SamplingMixin:
    """Mixin that adds ``sample`` to learners whose task has a method of this name."""

    def sample(
        self: Any, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> np.ndarray:
        """Draw new images from the network.

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
            Images in the type and value range of the training images.
        """
        check_is_fitted(self)
        module, precision = self.net_.module_, self.net_.precision
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive integer")
        seed = draw_seed(random_state)
        height, width, channels = self.image_shape_
        shape = (n_samples, height, width, channels)[: 3 if channels == 1 else 4]
        samples = np.empty(shape, module.pixels.dtype)
        form = Form(samples, Images(samples, shape=self.image_shape_))
        with isolated(self.device_, seed), torch.no_grad(), autocast(self.device_, precision):
            for start in range(0, n_samples, _DRAWN_AT_ONCE):
                n = min(_DRAWN_AT_ONCE, n_samples - start)
                values = module.task.sample(n, self.device_).float().clamp(0, 1)
                images = module.pixels.restore(module.pixels.inverse(values).cpu().numpy())
                samples[start : start + n] = form.convert(images)
        return samples
