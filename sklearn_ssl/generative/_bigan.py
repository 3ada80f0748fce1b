"""BiGAN: encoder and generator become each other's inverse to fool a discriminator."""

from typing import ClassVar

import torch
import torch.nn.functional as F

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, TaskOutput, argument
from sklearn_ssl.generative._shared import CodeTask, ReconstructionMixin, SamplingMixin
from sklearn_ssl.nn import ConvDiscriminator, MapToVector, discriminator_loss, frozen
from sklearn_ssl.views import Views


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
        # both in one batch, so that batch norm's running statistics suit both
        vectors = torch.cat([noise, code]) if self.cycle else noise
        made, *again = self.decode(vectors).split(len(noise))
        # the discriminator separates (image, its code) from (generated image, its noise) ...
        told = discriminator_loss(
            self.discriminator(real, code.detach()), self.discriminator(made.detach(), noise)
        )
        # ... while encoder and generator make it confuse the two
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

    A generator maps noise to images, and an encoder maps images to codes. A discriminator sees
    pairs of an image and a code; to fool it, encoder and generator must become each other's
    inverse. All three are trained in one step, with the non-saturating loss.

    With the defaults it is an autoencoder plus a GAN: images decoded from codes must also resemble
    their originals, as in [2]_, and nearly all that the features gain comes from that. They are no
    better than those of :class:`Autoencoder`. ``cycle=0`` is the loss of [1]_ alone, which in
    training runs of minutes left features worse than those of the untrained encoder. The
    discriminator averages its features over the image, so it judges what is there, not where; the
    paper's does not average. For the betas of the paper's Adam, use
    ``optimizer=functools.partial(torch.optim.AdamW, betas=(0.5, 0.999))``.

    Output images have the resolution of the views, by default half that of the images;
    ``views=Views(size=...)`` changes it.

    Parameters
    ----------
    latent_dim : int, default=128
        Dimension of noise and codes.
    cycle : float, default=200.0
        Weight of the mean squared error between standardized images and their reconstructions. High
        values improve features and reconstructions, but samples get worse, as codes then differ
        from the noise that samples are generated from; [2]_ uses a far smaller weight.
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

    _task_class: ClassVar = BiGANTask

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)
