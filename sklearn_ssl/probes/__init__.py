"""Classifiers and regressors on features, and on images of which few have labels."""

from sklearn_ssl.probes._fine_tuned import FineTunedClassifier, FineTunedRegressor
from sklearn_ssl.probes._kernel import KernelProbe, KernelRegressor
from sklearn_ssl.probes._linear import LinearProbe
from sklearn_ssl.probes._neighbors import NeighborsProbe
from sklearn_ssl.probes._self_supervised import (
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
)

__all__ = [
    "FineTunedClassifier",
    "FineTunedRegressor",
    "KernelProbe",
    "KernelRegressor",
    "LinearProbe",
    "NeighborsProbe",
    "SelfSupervisedClassifier",
    "SelfSupervisedRegressor",
]
