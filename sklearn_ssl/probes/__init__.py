"""Classifiers and regressors on features."""

from sklearn_ssl.probes._attentive import AttentiveProbe
from sklearn_ssl.probes._kernel import KernelProbe, KernelRegressor
from sklearn_ssl.probes._linear import LinearProbe
from sklearn_ssl.probes._neighbors import NeighborsProbe

__all__ = ["AttentiveProbe", "KernelProbe", "KernelRegressor", "LinearProbe", "NeighborsProbe"]
