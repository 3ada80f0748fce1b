"""Split-brain autoencoder: predict color from lightness, and lightness from color."""

from typing import ClassVar

import torch.nn.functional as F

from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput
from sklearn_ssl.generative._color import Bins, ColorEncoder, half, join_color, split_color
from sklearn_ssl.generative._shared import ReconstructionMixin
from sklearn_ssl.nn import ConvDecoder
from sklearn_ssl.views import Views


class SplitBrainTask(PretextTask):
    def __init__(self, encoder, views):
        super().__init__(encoder, views)
        height, width, channels = encoder.image_shape
        d, *grid = encoder.out_shape
        half_shape = (d // 2, *grid)
        self.color_bins = Bins.of_color(channels)
        self.lightness_bins = Bins.of_lightness()
        self.color_decoder = ConvDecoder(half_shape, self.color_bins.n_logits, (height, width))
        self.lightness_decoder = ConvDecoder(
            half_shape, self.lightness_bins.n_logits, (height, width)
        )

    def predict(self, images):
        """Predict logits of color from lightness, and vice versa, at half the resolution."""
        size = half(images)
        of_lightness, of_color = self.encoder(images).chunk(2, dim=1)
        return self.color_decoder(of_lightness, size), self.lightness_decoder(of_color, size)

    def forward(self, images, index):
        images = self.views(images)
        color_logits, lightness_logits = self.predict(images)
        lightness, color = (
            F.adaptive_avg_pool2d(part, half(images)) for part in split_color(images)
        )
        of_color, seen_colors = self.color_bins(color_logits, color)
        of_lightness, seen_lightness = self.lightness_bins(lightness_logits, lightness)
        terms = {"color": of_color, "lightness": of_lightness}
        return TaskOutput(of_color + of_lightness, terms, (seen_colors, seen_lightness))

    def after_step(self, output, progress):
        for bins, shares in zip((self.color_bins, self.lightness_bins), output.state, strict=True):
            bins.update(shares)

    def reconstruct(self, images):
        color_logits, lightness_logits = self.predict(images)
        parts = self.lightness_bins.values(lightness_logits), self.color_bins.values(color_logits)
        channels, *size = images.shape[1:]
        lightness, color = (F.interpolate(part, size, mode="bilinear") for part in parts)
        return join_color(lightness, color, channels)


class SplitBrainAutoencoder(ReconstructionMixin, PretextLearner):
    """Split-brain autoencoder: cross-channel prediction [1]_.

    One half of the network sees the lightness of an image and predicts its color; the other sees
    the color and predicts the lightness. Both classify quantized values. Unlike in the paper, rare
    values count more (as for :class:`Colorization` with ``rebalance=0.5``), which neither helped
    nor hurt. Features are those of both halves, concatenated. Each half is a whole ``encoder``, so
    there are twice as many parameters and features. Color is defined as for :class:`Colorization`.

    Parameters
    ----------
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Zhang, Isola and Efros (2017), Split-Brain Autoencoders: Unsupervised Learning by
       Cross-Channel Prediction, https://arxiv.org/abs/1611.09842

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SplitBrainAutoencoder
    >>> X = load_digits().images[:256]
    >>> ssl = SplitBrainAutoencoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 1024)
    """

    _shares_encoder: ClassVar[bool] = False

    _task_class: ClassVar = SplitBrainTask

    def _make_encoder(self, image_shape, mean, std):
        height, width, channels = image_shape
        n_colors = 2 if channels == 3 else channels

        def make(n, mean, std):
            shape = (height, width, n)
            return self._make_network(shape, [mean] * n, [std] * n, normalization="images")

        return ColorEncoder(
            image_shape, lightness=make(1, 0.5, 0.25), color=make(n_colors, 0.0, 0.2)
        )

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)
