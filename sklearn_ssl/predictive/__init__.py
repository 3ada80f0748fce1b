"""Predictive learners: tell what was done to an image."""

from sklearn_ssl.predictive._rotation import RotationPrediction

__all__ = ["RotationPrediction"]
