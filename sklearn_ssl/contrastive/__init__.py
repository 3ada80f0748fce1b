"""Contrastive learners: find the positive among negatives."""

from sklearn_ssl.contrastive._cpc import CPC
from sklearn_ssl.contrastive._deep_infomax import DeepInfoMax
from sklearn_ssl.contrastive._instance_discrimination import InstanceDiscrimination
from sklearn_ssl.contrastive._moco import MoCo
from sklearn_ssl.contrastive._nnclr import NNCLR
from sklearn_ssl.contrastive._simclr import SimCLR

__all__ = ["CPC", "DeepInfoMax", "InstanceDiscrimination", "MoCo", "NNCLR", "SimCLR"]
