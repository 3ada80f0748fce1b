"""BiGAN: encoder and generator become each other's inverse to deceive a discriminator."""

from typing import ClassVar

import torch
import torch.nn.functional as F

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, TaskOutput, argument
from sklearn_ssl.generative._shared import CodeTask, ReconstructionMixin, SamplingMixin
from sklearn_ssl.nn import ConvDiscriminator, MapToVector, discriminator_loss, frozen
from sklearn_ssl.views import Views

__all__ = ["BiGAN"]


class BiGANTask(CodeTask):
    def __init__(self, encoder, views, *, latent_dim, cycle):
        super().__init__(encoder, views, latent_dim)
        self.cycle = cycle
        self.code = MapToVector(self.map_shape, latent_dim)
        self.discriminator = ConvDiscriminator(
            encoder.image_shape[2], self.size, vector_dim=latent_dim
        )

    def codes(self, images):
        return self.code(self.encoder(images)).float()

    def forward(self, images, index):
        images = self.views(images)
        real, code = self.encoder.standardize(images), self.codes(images)
        noise = torch.randn_like(code)
        # one batch of both, whose statistics are those that batch norm keeps
        vectors = torch.cat([noise, code]) if self.cycle else noise
        made, *again = self.decode(vectors).split(len(noise))
        # the discriminator tells (image, its code) from (made image, its noise) ...
        told = discriminator_loss(
            self.discriminator(real, code.detach()), self.discriminator(made.detach(), noise)
        )
        # ... and encoder and generator make it take each for the other
        deceived = discriminator_loss(
            frozen(self.discriminator, made, noise), frozen(self.discriminator, real, code)
        )
        terms = {"discriminator": told, "generator": deceived}
        loss = told + deceived
        if self.cycle:
            terms["cycle"] = F.mse_loss(again[0], real)
            loss = loss + self.cycle * terms["cycle"]
        return TaskOutput(loss, terms)


class BiGAN(ReconstructionMixin, SamplingMixin, PretextLearner):
    """Bidirectional generative adversarial network [1]_.

    A generator makes images of noise, an encoder makes codes of images. A discriminator sees pairs
    of image and code; to deceive it, encoder and generator must become each other's inverse. All
    three are trained by one step, with the loss that does not saturate.

    With the defaults it is an autoencoder with this game beside it: the code's image also has to be
    like the image it comes from, as in [2]_, and nearly all that the features gain comes from that.
    They are no better than those of :class:`Autoencoder`. ``cycle=0`` is the loss of [1]_ alone,
    which in trainings of minutes left features below those of the encoder's start. The
    discriminator averages its features over the image, so it judges what is there and not where.
    The paper's has a map without averaging, and Adam with ``betas=(0.5, 0.999)``, to be had as
    ``optimizer=functools.partial(torch.optim.AdamW, betas=(0.5, 0.999))``.

    Pictures have the detail of the views, by default half of the image's size; ``views=Views(size=
    ...)`` asks for another.

    Parameters
    ----------
    latent_dim : int, default=128
        Numbers in noise and code.
    cycle : float, default=200.0
        Weight of the mean squared error between standardized images and those of their codes. Much
        of it makes better features and reconstructions, but worse samples, as codes are then not
        the noise that samples are made of; that of [2]_ is far smaller.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Donahue, Krähenbühl and Darrell (2017), Adversarial Feature Learning,
       https://arxiv.org/abs/1605.09782
    .. [2] Li et al. (2017), ALICE: Towards Understanding Adversarial Learning for Joint
       Distribution Matching, https://arxiv.org/abs/1709.01215

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import BiGAN
    >>> X = load_digits().images[:256]
    >>> ssl = BiGAN(max_epochs=1, random_state=0).fit(X)
    >>> ssl.sample(4, random_state=0).shape
    (4, 8, 8)
    """

    latent_dim: int = argument(COUNT, default=128)
    cycle: float = argument(NOT_NEGATIVE, default=200.0)
    lr: float = 5e-4

    _usual_batch_size: ClassVar[int] = 64

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        views = self._make_views()
        return BiGANTask(encoder, views, latent_dim=self.latent_dim, cycle=self.cycle)
