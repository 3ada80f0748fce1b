"""Weighted nearest neighbors of unit vectors, on the device."""

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_ssl._labeled._mixins import LabeledClassifierMixin, labeled_samples
from sklearn_ssl._labeled._to_torch import ExportMixin
from sklearn_ssl._utils._estimators import (
    COUNT,
    POSITIVE,
    DeclaredArguments,
    all_or_nothing,
    argument,
)
from sklearn_ssl._utils._messages import naming
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import own_settings, resolve_device

_PAIRS_AT_ONCE = 2**24

_COLDEST = 1e-30  # lowest temperature that float32 can divide by; only the nearest counts


class NeighborsProbe(
    LabeledClassifierMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator
):
    """Nearest-neighbor classifier, with neighbors weighted by cosine similarity [1]_.

    It needs no training and hardly any tuning, so it is fast. It shows whether images of a class
    have similar features.

    Parameters
    ----------
    n_neighbors : int, default=200
        Number of neighbors; if there are fewer samples, all of them.
    temperature : float, default=0.07
        A neighbor with cosine similarity s has the weight exp(s / temperature).
    device : str or torch.device, default="auto"
        Device of the computation; ``"auto"`` means a GPU if there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    References
    ----------
    .. [1] Wu, Xiong, Yu and Lin (2018), Unsupervised Feature Learning via Non-Parametric Instance
       Discrimination, section 3.4. https://arxiv.org/abs/1805.01978

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl.probes import NeighborsProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = NeighborsProbe(n_neighbors=20).fit(X[:1000], y[:1000])
    >>> round(probe.score(X[1000:], y[1000:]), 2)
    0.96
    """

    n_neighbors: int = argument(COUNT, default=200, kw_only=False)
    temperature: float = argument(POSITIVE, default=0.07)
    device: str | torch.device = argument(str, torch.device, default="auto")

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Store features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels; samples without one (None, NaN, NA or -1) are left out.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y, _ = labeled_samples(self, X, y, dtype=np.float32)
        self.classes_, self._codes = np.unique(y, return_inverse=True)
        self._unit = F.normalize(torch.from_numpy(np.ascontiguousarray(X)), dim=1).numpy()
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute each class's share of the neighbors' weight.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        check_is_fitted(self)
        with naming("X"):
            X = validate_data(self, X, dtype=np.float32, reset=False)
        device = resolve_device(self.device)
        shares = np.empty((len(X), len(self.classes_)), np.float32)
        k = min(int(self.n_neighbors), len(self._unit))
        with own_settings(device), torch.no_grad():
            known = torch.from_numpy(self._unit).to(device)
            codes = torch.from_numpy(self._codes).to(device)
            size = max(1, _PAIRS_AT_ONCE // len(known))
            for start in range(0, len(X), size):
                some = torch.from_numpy(np.ascontiguousarray(X[start : start + size])).to(device)
                cosines, nearest = (F.normalize(some, dim=1) @ known.T).topk(k, dim=1)
                weights = (cosines / max(self.temperature, _COLDEST)).softmax(1)
                votes = torch.zeros(len(some), len(self.classes_), device=device)
                votes.scatter_add_(1, codes[nearest], weights)
                shares[start : start + size] = votes.cpu().numpy()
        return shares

    def to_torch(self) -> nn.Module:
        """Return the classifier as a plain torch module.

        Returns
        -------
        nn.Module
            Maps features (n, n_features) to the shares of classes (n, n_classes), float32.
        """
        check_is_fitted(self)
        k = min(int(self.n_neighbors), len(self._unit))
        return _Votes(self._unit, self._codes, k, max(float(self.temperature), _COLDEST)).eval()

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class with the most weight.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]


class _Votes(nn.Module):
    """Module for each class's share of the weight of the nearest unit vectors."""

    known: Tensor
    classes: Tensor

    def __init__(self, known: np.ndarray, codes: np.ndarray, k: int, temperature: float):
        super().__init__()
        self.register_buffer("known", torch.from_numpy(known.copy()))
        self.register_buffer("classes", F.one_hot(torch.from_numpy(codes)).float())
        self.k = k
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        cosines, nearest = (F.normalize(features, dim=1) @ self.known.T).topk(self.k, dim=1)
        weights = (cosines / self.temperature).softmax(1)
        return (weights[..., None] * self.classes[nearest]).sum(1)
