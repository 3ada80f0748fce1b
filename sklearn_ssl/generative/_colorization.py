"""Colorization: predict the colors of an image from its lightness."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import SHARE
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.generative._color import Bins, ColorEncoder, half, join_color, split_color
from sklearn_ssl.generative._shared import RedrawMixin
from sklearn_ssl.nn import ConvDecoder
from sklearn_ssl.views import Views


class ColorizationTask(PretextTask):
    def __init__(self, encoder, views, *, rebalance):
        super().__init__(encoder, views)
        height, width, channels = encoder.image_shape
        self.bins = Bins.of_color(channels, rebalance)
        self.decoder = ConvDecoder(encoder.out_shape, self.bins.n_logits, (height, width))

    def predict(self, images: Tensor) -> Tensor:
        """Predict logits of the color bins at half the resolution."""
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

    The encoder sees only the lightness of an image (L* of CIE L*a*b*). At every position, the
    network classifies the color, quantized in a*, b*; rare colors count more. The bins are the 259
    of the paper's grid that sRGB colors round to; the paper counts 313. Colors are predicted at
    half the resolution of the views; the paper, with larger images, uses a quarter.

    For images with other than three channels, lightness is the channel mean, and colors are the
    differences from it. Gray images have no color: a coarse version serves as lightness, and the
    missing detail is predicted.

    Parameters
    ----------
    rebalance : float, default=0.5
        Weighting of rare colors: 1 is by inverse frequency, 0 uniform. It is the paper's
        1 - lambda, with lambda at least 0.01. Frequencies are a running average over batches (1 %
        per step) that starts uniform.
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

    _task_class: ClassVar = ColorizationTask

    def _make_encoder(self, image_shape, mean, std):
        gray_shape = (*image_shape[:2], 1)
        encoder = self._make_network(gray_shape, [0.5], [0.25], normalization="images")
        return ColorEncoder(image_shape, lightness=encoder)

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)

    def colorize(self, X: Any) -> Any:
        """Color images by predicting colors from their lightness.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`; only their lightness is used.

        Returns
        -------
        array or tensor
            Images in the shape, type and value range of ``X``; a 2-D array for a data frame.
        """
        return self._redraw(X, self._task.colorize)
