"""Weighted nearest neighbors on unit features, on the device."""

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_ssl._utils._arguments import COUNT, POSITIVE, DeclaredArguments, argument
from sklearn_ssl._utils._device import resolve_device
from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl._utils._messages import naming
from sklearn_ssl.base._checks import all_or_nothing
from sklearn_ssl.base._saved import SavedMixin
from sklearn_ssl.probes._labeled import LabeledClassifierMixin, labeled_samples
from sklearn_ssl.probes._modules import ExportMixin

__all__ = ["NeighborsProbe"]

_PAIRS_AT_ONCE = 2**24

_COLDEST = 1e-30  # temperature by which cosines can be divided in float32; only the nearest counts


class NeighborsProbe(
    LabeledClassifierMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator
):
    """Classification by the nearest features, weighted by their cosine similarity [1]_.

    It has nothing to train and one number to choose, so it is quick, and tells whether images of a
    class lie together.

    Parameters
    ----------
    n_neighbors : int, default=200
        No more than there are samples.
    temperature : float, default=0.07
        A neighbor at cosine s has the weight exp(s / temperature).
    device : str or torch.device, default="auto"
        ``"auto"`` takes a GPU when there is one.

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
        """Keep features and labels.

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
        """Predict the shares of the classes in the weight of the neighbors.

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
        """Return the classifier as a module of torch alone.

        Returns
        -------
        nn.Module
            Takes features (n, n_features) and gives shares of the classes (n, n_classes), float32.
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
    """Shares of classes in the weight of the nearest of known unit features."""

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
