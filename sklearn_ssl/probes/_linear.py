"""Multinomial logistic regression on the device, in batches, along a path of C."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from sklearn_ssl._utils._arguments import COUNT, POSITIVE, DeclaredArguments, argument, plain
from sklearn_ssl._utils._device import resolve_device
from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl._utils._warnings import warn
from sklearn_ssl.probes._classes import DecisionMixin, best_of, encoded

__all__ = ["LinearProbe"]

_VALUES_AT_ONCE = 2**24


class LinearProbe(DecisionMixin, DeclaredArguments, BaseEstimator):
    """Multinomial logistic regression: how good are the features that it is given?

    The same problem as that of :class:`~sklearn.linear_model.LogisticRegression`, and the same
    solver (L-BFGS); sums over samples run on the device, in batches and double precision. Its
    coefficients agree with those of scikit-learn within 1e-3 of their largest where both have
    converged (``tol=1e-8``).

    Several values of ``C`` are a path: each starts where the one before ended, and the one with the
    best accuracy in cross-validation is taken.

    Parameters
    ----------
    C : float or sequence of float, default=1.0
        Inverse strength of the L2 penalty, which the intercept has not.
    cv : int, splitter or None, default=None
        How a ``C`` is chosen among several; ``None`` takes 5 stratified folds.
    class_weight : dict, {"balanced"} or None, default=None
        Weights of classes, as in scikit-learn.
    fit_intercept : bool, default=True
    tol : float, default=1e-4
        Largest gradient at which it stops.
    max_iter : int, default=1000
        Iterations of the solver, for each ``C``.
    device : str or torch.device, default="auto"
        ``"auto"`` takes a GPU when there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
    intercept_ : ndarray of shape (n_classes,) or (1,)
    C_ : float
        The one that was taken.
    scores_ : ndarray of shape (n_folds, n_C)
        Accuracy in cross-validation, where there are several ``C``.
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_ssl.probes import LinearProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = make_pipeline(StandardScaler(), LinearProbe(C=[0.01, 0.1, 1.0]))
    >>> round(probe.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]), 2)
    0.93
    """

    C: float | Sequence[float] = argument(POSITIVE, "array-like", default=1.0)
    cv: Any = argument("cv_object", default=None)
    class_weight: Any = argument(dict, StrOptions({"balanced"}), None, default=None)
    fit_intercept: bool = argument("boolean", default=True)
    tol: float = argument(Interval(Real, 0, None, closed="left"), default=1e-4)
    max_iter: int = argument(COUNT, default=1000)
    device: str | torch.device = argument(str, torch.device, default="auto")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit it to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        classes, codes = encoded(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            of_class = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weights
            )
            weights = weights * of_class[codes]
        path = sorted({float(c) for c in np.ravel(plain(self.C))})
        if min(path) <= 0:
            raise ValueError(f"C={self.C!r} must be above 0")
        device = resolve_device(self.device)
        chosen = path
        with own_settings(device):
            if len(path) > 1:
                self.scores_ = self._cross_validate(X, y, codes, weights, classes, path, device)
                best = path[int(self.scores_.mean(0).argmax())]
                chosen = [c for c in path if c <= best]
            solution = _Problem(self, X, codes, weights, len(classes), device).solve(chosen)[-1]
        self.classes_, self.C_ = classes, chosen[-1]
        self.coef_, self.intercept_, self.n_iter_ = solution
        return self

    def _cross_validate(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray, weights: np.ndarray,
        classes: np.ndarray, path: list[float], device: torch.device,
    ) -> np.ndarray:  # fmt: skip
        scores = []
        for train, test in check_cv(self.cv, y, classifier=True).split(X, y):
            if len(np.unique(codes[train])) < len(classes):
                raise ValueError("a fold lacks a class; give fewer folds, cv=2, or one C")
            problem = _Problem(self, X[train], codes[train], weights[train], len(classes), device)
            accuracies = []
            for coef, intercept, _ in problem.solve(path):
                found = best_of(X[test] @ coef.T + intercept)
                accuracies.append(np.average(found == codes[test]))
            scores.append(accuracies)
        return np.array(scores)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        scores = torch.from_numpy(np.asarray(self.decision_function(X)))
        if scores.ndim == 1:
            scores = torch.stack([-scores, scores], 1) / 2
        return scores.softmax(1).numpy()


class _Problem:
    """The loss of a linear classifier on samples, and its least value."""

    def __init__(
        self, probe: LinearProbe, X: np.ndarray, codes: np.ndarray, weights: np.ndarray,
        n_classes: int, device: torch.device,
    ):  # fmt: skip
        self.probe = probe
        self.rows = 1 if n_classes == 2 else n_classes
        # Apple's GPUs have no double precision
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.X = torch.from_numpy(np.ascontiguousarray(X)).to(device)
        self.codes = torch.from_numpy(codes).to(device)
        self.weights = torch.from_numpy(weights).to(device, self.dtype)
        self.size = max(1, _VALUES_AT_ONCE // X.shape[1])

    def solve(self, path: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Coefficients, intercepts and iterations for each C, from small to large."""
        n_features = self.X.shape[1]
        width = n_features + self.probe.fit_intercept
        total = float(self.weights.sum())
        start = np.zeros(self.rows * width)
        found = []
        for c in path:
            result = minimize(
                self.loss,
                start,
                args=(c * total,),
                jac=True,
                method="L-BFGS-B",
                options={
                    "maxiter": int(self.probe.max_iter),
                    "maxls": 50,
                    "gtol": float(self.probe.tol),
                    "ftol": 64 * np.finfo(float).eps,
                },
            )
            if result.status == 1:
                warn(
                    f"LinearProbe did not converge in max_iter={self.probe.max_iter} iterations; "
                    "give more, or put a StandardScaler before it",
                    ConvergenceWarning,
                )
            start = result.x
            values = start.reshape(self.rows, width)
            intercept = values[:, -1] if self.probe.fit_intercept else np.zeros(self.rows)
            found.append((values[:, :n_features].copy(), intercept.copy(), int(result.nit)))
        return found

    def loss(self, flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        """Mean loss of a sample with the penalty of a sample, and its gradient."""
        n_features = self.X.shape[1]
        values = torch.from_numpy(flat.reshape(self.rows, -1)).to(self.X.device, self.dtype)
        coef = values[:, :n_features]
        loss = (coef.square().sum() / (2 * strength)).reshape(())
        gradient = torch.zeros_like(values)
        gradient[:, :n_features] = coef / strength
        total = self.weights.sum()
        for start in range(0, len(self.X), self.size):
            here = slice(start, start + self.size)
            X, weights = self.X[here].to(self.dtype), self.weights[here] / total
            scores = X @ coef.T
            if self.probe.fit_intercept:
                scores += values[:, -1]
            each, by_score = self._of_scores(scores, self.codes[here])
            loss = loss + (weights * each).sum()
            by_score = by_score * weights[:, None]
            gradient[:, :n_features] += by_score.T @ X
            if self.probe.fit_intercept:
                gradient[:, -1] += by_score.sum(0)
        return float(loss), gradient.cpu().double().numpy().ravel()

    def _of_scores(self, scores: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each sample, and its derivative by the scores."""
        if self.rows == 1:
            sign = 2.0 * codes - 1
            margin = sign * scores[:, 0]
            each = torch.nn.functional.softplus(-margin)
            return each, (-sign * torch.sigmoid(-margin))[:, None]
        each = torch.nn.functional.cross_entropy(scores, codes, reduction="none")
        by_score = scores.softmax(1)
        by_score[torch.arange(len(codes), device=codes.device), codes] -= 1
        return each, by_score
