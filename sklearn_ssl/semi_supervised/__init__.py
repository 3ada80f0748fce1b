"""Classifiers and regressors for many images with few labels."""

from sklearn_ssl.semi_supervised._self_supervised import (
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
)

__all__ = ["SelfSupervisedClassifier", "SelfSupervisedRegressor"]
