"""Encoders trained end to end with labels."""

from sklearn_ssl.fine_tuning._fine_tuned import FineTunedClassifier, FineTunedRegressor

__all__ = ["FineTunedClassifier", "FineTunedRegressor"]
