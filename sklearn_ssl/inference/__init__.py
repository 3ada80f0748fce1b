"""Applying a fitted network to images: in chunks, or as a module of torch alone."""

from sklearn_ssl.inference._apply import apply
from sklearn_ssl.inference._extractor import FeatureExtractor

__all__ = ["FeatureExtractor", "apply"]
