"""Self-supervised pretext learners for images, as scikit-learn transformers."""

from sklearn_ssl import exceptions
from sklearn_ssl.contrastive import CPC, SimCLR
from sklearn_ssl.discovery import all_estimators
from sklearn_ssl.generative import DenoisingAutoencoder
from sklearn_ssl.predictive import RotationPrediction
from sklearn_ssl.views import Views

__version__ = "0.1.0"
__all__ = [
    "CPC",
    "DenoisingAutoencoder",
    "RotationPrediction",
    "SimCLR",
    "Views",
    "all_estimators",
    "exceptions",
]
