"""Generative learners: reconstruct the image while learning a representation of it."""

from sklearn_ssl.generative._denoising import DenoisingAutoencoder

__all__ = ["DenoisingAutoencoder"]
