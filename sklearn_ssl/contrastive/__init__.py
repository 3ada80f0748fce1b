"""Contrastive learners: tell what belongs together from what does not."""

from sklearn_ssl.contrastive._simclr import SimCLR

__all__ = ["SimCLR"]
