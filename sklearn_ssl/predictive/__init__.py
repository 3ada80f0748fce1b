"""Predictive learners: predict how an image was changed, or how its parts fit together."""

from sklearn_ssl.predictive._exemplar import ExemplarCNN
from sklearn_ssl.predictive._jigsaw import Jigsaw
from sklearn_ssl.predictive._learning_to_count import LearningToCount
from sklearn_ssl.predictive._relative_patch_location import RelativePatchLocation
from sklearn_ssl.predictive._rotation import RotationPrediction

__all__ = [
    "ExemplarCNN",
    "Jigsaw",
    "LearningToCount",
    "RelativePatchLocation",
    "RotationPrediction",
]
