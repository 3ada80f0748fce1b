"""Variational autoencoder: reconstruct the image through a noisy, normally distributed code."""

from typing import ClassVar

import torch
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, TaskOutput, argument
from sklearn_ssl.generative._shared import CodeTask, ReconstructionMixin, SamplingMixin
from sklearn_ssl.nn import MapToVector
from sklearn_ssl.views import Views


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Compute the KL divergence (n,) of Gaussians (n, d) from the standard normal, a sum over d."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class VariationalTask(CodeTask):
    def __init__(self, encoder, views, *, latent_dim, beta):
        super().__init__(encoder, views, latent_dim)
        self.beta = beta
        self.posterior = MapToVector(self.map_shape, 2 * latent_dim)

    def distributions(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and log variance (n, latent_dim) of each image's Gaussian over codes."""
        mean, log_variance = self.posterior(self.encoder(images)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)  # so that the exponential is finite

    def codes(self, images):
        return self.distributions(images)[0]

    def forward(self, images, index):
        images = self.views(images)
        mean, log_variance = self.distributions(images)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        # negative log likelihood of a Gaussian with unit variance, up to a constant
        error = (self.decode(z) - self.encoder.standardize(images)).square().flatten(1)
        reconstruction = 0.5 * error.sum(1).mean()
        kl = kl_to_standard_normal(mean, log_variance).mean()
        values = error.shape[1]  # per value, so that the best learning rate does not depend on size
        loss = (reconstruction + self.beta * kl) / values
        return TaskOutput(loss, {"reconstruction": reconstruction / values, "kl": kl})


class VariationalAutoencoder(ReconstructionMixin, SamplingMixin, PretextLearner):
    """Variational autoencoder [1]_, with the weight of beta-VAE [2]_.

    An image is encoded as a Gaussian over codes. A code drawn from it must reconstruct the image,
    while the Gaussians are pulled toward the standard normal (evidence lower bound, with Gaussian
    pixels). Output images are pixel means, without noise. Log variances are clipped to [-30, 20].

    Output images have the resolution of the views, by default half that of the images;
    ``views=Views(size=...)`` changes it.

    Parameters
    ----------
    latent_dim : int, default=64
        Dimension of the code.
    beta : float, default=0.02
        Weight of the KL divergence from the standard normal. The loss is the evidence lower bound
        if standardized pixels have this variance; smaller values preserve more of the image.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Kingma and Welling (2014), Auto-Encoding Variational Bayes,
       https://arxiv.org/abs/1312.6114
    .. [2] Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained
       Variational Framework, https://openreview.net/forum?id=Sy2fzU9gl

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import VariationalAutoencoder
    >>> X = load_digits().images[:256]
    >>> ssl = VariationalAutoencoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.sample(4, random_state=0).shape
    (4, 8, 8)
    """

    latent_dim: int = argument(COUNT, default=64)
    beta: float = argument(NOT_NEGATIVE, default=0.02)

    _usual_batch_size: ClassVar[int] = 64

    _task_class: ClassVar = VariationalTask

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)
