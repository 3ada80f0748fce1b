"""Self-supervised pretext learners for images, as scikit-learn transformers."""

from sklearn_ssl import exceptions
from sklearn_ssl.contrastive import CPC, NNCLR, DeepInfoMax, InstanceDiscrimination, MoCo, SimCLR
from sklearn_ssl.discovery import all_estimators
from sklearn_ssl.generative import DenoisingAutoencoder
from sklearn_ssl.joint_embedding import BYOL, DINO, BarlowTwins, LeJEPA, SimSiam, SwAV, VICReg
from sklearn_ssl.predictive import RotationPrediction
from sklearn_ssl.views import Views

__version__ = "0.1.0"
__all__ = [
    "BYOL", "CPC", "DINO", "NNCLR", "BarlowTwins", "DeepInfoMax", "DenoisingAutoencoder",
    "InstanceDiscrimination", "LeJEPA", "MoCo", "RotationPrediction", "SimCLR", "SimSiam", "SwAV",
    "VICReg", "Views", "all_estimators", "exceptions",
]  # fmt: skip
