"""Colorization: predict the colors of an image from its lightness."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._arguments import SHARE
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.generative._color import Bins, ColorEncoder, half, join_color, split_color
from sklearn_ssl.generative._shared import RedrawMixin
from sklearn_ssl.nn import ConvDecoder
from sklearn_ssl.views import Views

__all__ = ["Colorization"]


class ColorizationTask(PretextTask):
    def __init__(self, encoder, views, *, rebalance):
        super().__init__(encoder, views)
        height, width, channels = encoder.image_shape
        self.bins = Bins.of_color(channels, rebalance)
        self.decoder = ConvDecoder(encoder.out_shape, self.bins.n_logits, (height, width))

    def predict(self, images: Tensor) -> Tensor:
        """Predict logits of the color bins, at half the resolution."""
        return self.decoder(self.encoder(images), half(images))

    def forward(self, images, index):
        images = self.views(images)
        logits = self.predict(images)
        _, color = split_color(images)
        loss, seen = self.bins(logits, F.adaptive_avg_pool2d(color, half(images)))
        return TaskOutput(loss, state=seen)

    def after_step(self, output, progress):
        self.bins.update(output.state)

    def colorize(self, images: Tensor) -> Tensor:
        lightness, _ = split_color(images)
        color = self.bins.values(self.predict(images))
        color = F.interpolate(color, images.shape[2:], mode="bilinear")
        return join_color(lightness, color, images.shape[1])


class Colorization(RedrawMixin, PretextLearner):
    """Colorful image colorization [1]_.

    The encoder sees the lightness of an image alone (L* of CIE L*a*b*), and the network classifies
    its colors, quantized in a*, b*, at every position; rare colors count more. Of the paper's grid
    there are the 259 bins that colors of sRGB are rounded to; the paper counts 313. Colors are
    predicted at half the resolution of the views (a quarter in the paper), where images are small.

    Images of other channel counts than three have the mean of their channels as lightness, and the
    differences from it as colors. Gray images have no color: a coarse version plays the
    lightness, and its missing detail is predicted.

    Parameters
    ----------
    rebalance : float, default=0.5
        How much rare colors count more: 1 is by the inverse of their frequency, 0 not at all. It
        is 1 - lambda of the paper; lambda is 0.01 at least. Frequencies are a running average over
        batches (1 % a step), in the beginning all alike.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Zhang, Isola and Efros (2016), Colorful Image Colorization,
       https://arxiv.org/abs/1603.08511

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import Colorization
    >>> X = load_digits().images[:256]
    >>> ssl = Colorization(max_epochs=1, random_state=0).fit(X)
    >>> ssl.colorize(X).shape
    (256, 8, 8)
    """

    rebalance: float = argument(SHARE, default=0.5)

    _shares_encoder: ClassVar[bool] = False

    def _make_encoder(self, image_shape, mean, std):
        gray_shape = (*image_shape[:2], 1)
        encoder = self._make_network(gray_shape, [0.5], [0.25], normalization="images")
        return ColorEncoder(image_shape, lightness=encoder)

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        views = self._make_views()
        return ColorizationTask(encoder, views, rebalance=self.rebalance)

    def colorize(self, X: Any) -> Any:
        """Color images as the network predicts from their lightness.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`; only their lightness is used.

        Returns
        -------
        array or tensor
            In the shape, type and value range of ``X``; a 2-D array for a data frame.
        """
        return self._redraw(X, self._task.colorize)
