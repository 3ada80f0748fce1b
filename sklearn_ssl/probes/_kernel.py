"""Kernel ridge regression of labels on features, on the device."""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_ssl._utils._arguments import POSITIVE, DeclaredArguments, argument
from sklearn_ssl._utils._device import resolve_device
from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl.base._saved import SavedMixin
from sklearn_ssl.probes._classes import DecisionMixin, encoded

__all__ = ["KernelProbe"]

_PAIRS_AT_ONCE = 2**24


class KernelProbe(DecisionMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Kernel ridge regression of the classes, with a Gaussian kernel [1]_.

    Where all that counts is accuracy: it sees how features go together, which a linear probe does
    not, and its time hardly depends on how many features there are. That grows with the square of
    the number of samples, as memory does: 10,000 take 1.6 GB, and some seconds.

    Parameters
    ----------
    alpha : float, default=0.03
        Strength of the L2 penalty, where the kernel of a sample with itself is 1.
    gamma : float, default=0.5
        The kernel of two samples is exp(-gamma d / m), d their squared distance, and m the mean of
        d over all pairs.
    device : str or torch.device, default="auto"
        ``"auto"`` takes a GPU when there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    dual_coef_ : ndarray of shape (n, n_classes), float64
        Weights of the samples.
    X_fit_ : ndarray of shape (n, n_features), float32 or float64
        The samples; distances are computed in their type.
    scale_ : float
        Mean squared distance of two samples.
    n_features_in_ : int

    References
    ----------
    .. [1] Rifkin, Yeo and Poggio (2003), Regularized Least-Squares Classification.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_ssl.probes import KernelProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = make_pipeline(StandardScaler(), KernelProbe()).fit(X[:1000], y[:1000])
    >>> round(probe.score(X[1000:], y[1000:]), 2)
    0.95
    """

    alpha: float = argument(POSITIVE, default=0.03)
    gamma: float = argument(POSITIVE, default=0.5)
    device: str | torch.device = argument(str, torch.device, default="auto")

    def fit(self, X: Any, y: Any) -> Self:
        """Fit it to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        classes, codes = encoded(y)
        n = len(X)
        # twice the sum of the variances of features, over pairs of samples that are not the same
        scale = 2 * float(X.var(axis=0, dtype=np.float64).sum()) * n / (n - 1)
        self.scale_ = scale if scale > 0 else 1.0
        device = resolve_device(self.device)
        with own_settings(device), torch.no_grad():
            samples = torch.from_numpy(np.ascontiguousarray(X)).to(device)
            kernel = torch.empty(n, n, dtype=torch.float64, device=device)
            size = max(1, _PAIRS_AT_ONCE // n)
            for rows, some in zip(kernel.split(size), samples.split(size), strict=True):
                rows.copy_(self._kernel(some, samples))
            kernel.diagonal().fill_(1 + float(self.alpha))
            wanted = torch.full((n, len(classes)), -1.0, dtype=torch.float64, device=device)
            wanted[torch.arange(n), torch.from_numpy(codes)] = 1.0
            factor = torch.linalg.cholesky(kernel, out=kernel)
            weights = torch.cholesky_solve(wanted, factor)
            self.dual_coef_ = weights.cpu().numpy()
        self.classes_, self.X_fit_ = classes, X
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """How much speaks for each class, 1 being all, and -1 nothing.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            For two classes of shape (n,), what speaks for the second.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self.X_fit_.dtype, reset=False)
        device = resolve_device(self.device)
        found = np.empty((len(X), len(self.classes_)))
        size = max(1, _PAIRS_AT_ONCE // len(self.X_fit_))
        with own_settings(device), torch.no_grad():
            samples = torch.from_numpy(np.ascontiguousarray(self.X_fit_)).to(device)
            weights = torch.from_numpy(self.dual_coef_).to(device)
            for start in range(0, len(X), size):
                some = torch.from_numpy(np.ascontiguousarray(X[start : start + size])).to(device)
                kernel = self._kernel(some, samples).double()
                found[start : start + size] = (kernel @ weights).cpu().numpy()
        return found if len(self.classes_) > 2 else found[:, 1]

    def _kernel(self, some: Tensor, samples: Tensor) -> Tensor:
        squares = some.square().sum(1, keepdim=True) + samples.square().sum(1)
        distances = squares.addmm_(some, samples.T, alpha=-2).clamp_(min=0)
        return distances.mul_(-float(self.gamma) / self.scale_).exp_()
