"""Denoising autoencoder: reconstruct the clean image from a corrupted one."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import NOT_NEGATIVE, StrOptions
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.generative._shared import ReconstructionMixin
from sklearn_ssl.nn import ConvDecoder
from sklearn_ssl.views import Views


class DenoisingTask(PretextTask):
    def __init__(self, encoder, views, *, corruption, corruption_level):
        super().__init__(encoder, views)
        self.corruption = corruption
        self.level = corruption_level
        height, width, channels = encoder.image_shape
        self.decoder = ConvDecoder(encoder.out_shape, channels, (height, width))

    def corrupt(self, images: Tensor) -> Tensor:
        """Corrupt images in [0, 1]; masking and salt and pepper hit all channels of a pixel."""
        if self.corruption == "gaussian":
            return images + self.level * self.encoder.standardize.scale * torch.randn_like(images)
        noise = torch.rand_like(images[:, :1])
        if self.corruption == "salt_and_pepper":
            value = torch.randint_like(noise, 2)
        else:
            value = self.encoder.standardize.offset  # which the network sees as 0
        return torch.where(noise < self.level, value, images)

    def forward(self, images, index):
        clean = self.views(images)
        output = self.decoder(self.encoder(self.corrupt(clean)), clean.shape[2:])
        return TaskOutput(F.mse_loss(output.float(), self.encoder.standardize(clean)))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Pass images in [0, 1] through encoder and decoder."""
        output = self.decoder(self.encoder(images), images.shape[2:]).float()
        return self.encoder.standardize.inverse(output)


class DenoisingAutoencoder(ReconstructionMixin, PretextLearner):
    """Convolutional denoising autoencoder [1]_.

    Pixels of an image are corrupted; encoder and decoder must reconstruct the clean image (mean
    squared error on standardized pixels). What cannot be copied must be inferred. The paper sets
    pixels to 0 and stacks layers that are trained one by one; the other two kinds of noise come
    from its later version, and here all layers are trained together.

    Parameters
    ----------
    corruption : {"masking", "gaussian", "salt_and_pepper"}, default="masking"
        Set pixels to the mean, add noise to all, or set pixels to the lowest or highest value.
    corruption_level : float, default=0.5
        Fraction of pixels that are corrupted; for ``"gaussian"``, standard deviation of the noise
        relative to that of the images.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Vincent, Larochelle, Bengio and Manzagol (2008), Extracting and Composing Robust Features
       with Denoising Autoencoders, https://doi.org/10.1145/1390156.1390294

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import DenoisingAutoencoder
    >>> X = load_digits().images[:256]
    >>> ssl = DenoisingAutoencoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.reconstruct(X).shape
    (256, 8, 8)
    """

    corruption: str = argument(
        StrOptions({"masking", "gaussian", "salt_and_pepper"}), default="masking"
    )
    corruption_level: float = argument(NOT_NEGATIVE, default=0.5)

    _usual_batch_size: ClassVar[int] = 32

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        if self.corruption != "gaussian" and self.corruption_level >= 1:
            raise ValueError(
                f"corruption_level={self.corruption_level} is the fraction of corrupted pixels; "
                "use less than 1, so that some remain"
            )
        return self._new_task(DenoisingTask, encoder)
