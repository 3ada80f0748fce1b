"""Variational autoencoder: give the image back through a noisy code with a known distribution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_ssl.base import PretextLearner
from sklearn_ssl.constraints import COUNT, NOT_NEGATIVE
from sklearn_ssl.heads import MapToVector, VectorDecoder
from sklearn_ssl.reconstruction import ReconstructionMixin, SamplingMixin
from sklearn_ssl.task import PretextTask

__all__ = ["VariationalAutoencoder"]


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of Gaussians (n, d) from the standard normal, summed over d: (n,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class VariationalTask(PretextTask):
    def __init__(self, encoder, views, size, latent_dim, beta):
        super().__init__(encoder, views)
        self.beta = beta
        self.size = size
        self.latent_dim = latent_dim
        map_shape = encoder.shape_of(size)
        self.posterior = MapToVector(map_shape, 2 * latent_dim)
        self.decoder = VectorDecoder(latent_dim, map_shape, encoder.image_shape[2], size)

    def forward(self, images, index):
        images = self.views(images)
        mean, log_variance = self.posterior(self.encoder(images)).float().chunk(2, dim=1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        output = self.decoder(z, images.shape[2:]).float()
        # minus the log likelihood of a Gaussian of unit variance, but for its constant
        error = (output - self.encoder.standardise(images)).square().flatten(1)
        reconstruction = 0.5 * error.sum(1).mean()
        kl = kl_to_standard_normal(mean, log_variance).mean()
        values = error.shape[1]  # per value, so that the learning rate need not follow the size
        loss = (reconstruction + self.beta * kl) / values
        return {"loss": loss, "reconstruction": reconstruction / values, "kl": kl}

    def reconstruct(self, images):
        mean, _ = self.posterior(self.encoder(images)).chunk(2, dim=1)
        return self.encoder.unstandardise(self.decoder(mean, images.shape[2:]).float())

    def sample(self, n, device):
        z = torch.randn(n, self.latent_dim, device=device)
        size = self.encoder.image_shape[:2]
        return self.encoder.unstandardise(self.decoder(z, size).float())


@dataclass(kw_only=True, eq=False, repr=False)
class VariationalAutoencoder(ReconstructionMixin, SamplingMixin, PretextLearner):
    """Variational autoencoder [1]_, with the weight of beta-VAE [2]_.

    An image becomes a Gaussian over codes; a code drawn from it has to give the image back, while
    the Gaussians are drawn to the standard normal (evidence lower bound, with Gaussian pixels).

    Parameters
    ----------
    latent_dim : int, default=64
        Numbers in the code.
    beta : float, default=0.1
        Weight of the divergence from the standard normal. 1 is the evidence lower bound for
        standardised pixels with unit variance; smaller values keep more of the image.
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

    latent_dim: int = 64
    beta: float = 0.1

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **PretextLearner._parameter_constraints,
        "latent_dim": [COUNT],
        "beta": [NOT_NEGATIVE],
    }

    def _make_task(self, encoder, n_images):
        size = encoder.image_shape[:2]
        views = self._make_views(size, crop_scale=None, jitter=None, grey=0)
        return VariationalTask(encoder, views, views.size_for(size), self.latent_dim, self.beta)
