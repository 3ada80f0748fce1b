"""Generative learners: reconstruct the image, or a part of it, from a representation."""

from sklearn_ssl.generative._autoencoder import Autoencoder
from sklearn_ssl.generative._bigan import BiGAN
from sklearn_ssl.generative._colorization import Colorization
from sklearn_ssl.generative._context_encoder import ContextEncoder
from sklearn_ssl.generative._denoising import DenoisingAutoencoder
from sklearn_ssl.generative._masked_autoencoder import MaskedAutoencoder
from sklearn_ssl.generative._split_brain import SplitBrainAutoencoder
from sklearn_ssl.generative._variational import VariationalAutoencoder

__all__ = [
    "Autoencoder",
    "BiGAN",
    "Colorization",
    "ContextEncoder",
    "DenoisingAutoencoder",
    "MaskedAutoencoder",
    "SplitBrainAutoencoder",
    "VariationalAutoencoder",
]
