"""Estimators for pixels: classes from few labeled ones, and maps of what is unusual."""

from sklearn_ssl.dense._dense_classifier import DenseClassifier
from sklearn_ssl.dense._patch_core import PatchCore

__all__ = ["DenseClassifier", "PatchCore"]
