"""Self-supervised pretext learners for images, as scikit-learn transformers."""

from sklearn_ssl.contrastive import SimCLR
from sklearn_ssl.views import Views

__version__ = "0.1.0"
__all__ = ["SimCLR", "Views"]
