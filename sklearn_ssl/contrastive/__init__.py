"""Contrastive learners: tell what belongs together from what does not."""

from sklearn_ssl.contrastive._cpc import CPC
from sklearn_ssl.contrastive._simclr import SimCLR

__all__ = ["CPC", "SimCLR"]
