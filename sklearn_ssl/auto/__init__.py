"""Features within a time budget: parts, settings and weights are chosen by themselves."""

from sklearn_ssl.auto._auto_features import AutoFeatures

__all__ = ["AutoFeatures"]
