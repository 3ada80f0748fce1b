"""Multinomial logistic regression on the device, in batches, along a path of C."""

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_ssl._labeled._mixins import DecisionMixin, best_of, encoded, labeled_samples
from sklearn_ssl._labeled._to_torch import ExportMixin, Linear
from sklearn_ssl._utils._estimators import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    DeclaredArguments,
    StrOptions,
    all_or_nothing,
    argument,
    plain,
)
from sklearn_ssl._utils._messages import naming, warn
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import own_settings, resolve_device
from sklearn_ssl.exceptions import LabelWarning

_VALUES_AT_ONCE = 2**24
_VALUES_KEPT = 2**26  # up to so many are scaled once, in double precision, not in each batch
# Inverse penalty strengths, for features whose variances sum to 1
_STRENGTHS = tuple(10.0**i for i in range(7))
_ROUGHLY = 100  # iterations for each strength, starting from the previous solution
_HELD_OUT_ENOUGH = 400  # held-out samples that suffice to choose a strength
_CHOSEN_BY, _OF_RARE_CLASSES = 5000, 20  # samples to choose by; first up to 20 of each class


class LinearProbe(DecisionMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Multinomial logistic regression that chooses its own regularization and scaling.

    By default, it suits features of any dimension and scale, so it can compare methods: ``C``, and
    whether features are standardized, are chosen jointly by cross-validated log loss on the given
    labels. The log loss is computed after multiplying all scores by the best common factor, so the
    choice is about predicting the right class: ``predict_proba`` may be over- or underconfident. If
    more than half of the labels are the only one of their class, too little can be held out:
    features are then not standardized, and ``C`` is 1 for features divided by the root of their
    total variance, so their dimension does not matter. The values of ``C`` that are tried suit
    sample weights of about 1.

    With a number as ``C``, it solves the same problem as
    :class:`~sklearn.linear_model.LogisticRegression`, by the same method (L-BFGS); sums over
    samples run on the device, in batches and double precision. If both have converged
    (``tol=1e-8``), coefficients agree with those of scikit-learn within 1e-3 of the largest one.

    Parameters
    ----------
    C : "auto", float or sequence of float, default="auto"
        Inverse strength of the L2 penalty; the intercept is not penalized. ``"auto"`` chooses it by
        cross-validated log loss. Of a sequence, the value with the best cross-validated accuracy is
        used.
    standardize : bool or "auto", default="auto"
        If True, each feature is divided by its standard deviation; a hundredth of the mean variance
        is added to its variance, so that features that hardly vary do not dominate. ``"auto"``
        chooses it together with ``C="auto"``, and means False if ``C`` is given.
    cv : int, splitter or None, default=None
        Cross-validation that chooses ``C``. ``None`` means 5 stratified folds, or fewer if even the
        most frequent class has fewer labels. With ``C="auto"``, it then uses at most 5,000 samples,
        and only enough of the folds to hold out 400 samples.
    class_weight : dict, {"balanced"} or None, default=None
        Class weights, as in scikit-learn.
    fit_intercept : bool, default=True
    tol : float, default=1e-5
        Largest absolute gradient at which the solver stops, for features whose variances sum to 1.
    max_iter : int, default=1000
        Maximum number of iterations of the solver, for each ``C``.
    device : str or torch.device, default="auto"
        Device of the computation; ``"auto"`` means a GPU if there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes
        Coefficients for the features as given; they include the standardization.
    intercept_ : ndarray of shape (n_classes,) or (1,)
    C_ : float
        Value used; it applies to standardized features if ``standardized_`` is True.
    standardized_ : bool
        True if features are standardized.
    scores_ : ndarray of shape (n_folds, n_C)
        Cross-validated accuracies, if ``C`` is a sequence.
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl.probes import LinearProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = LinearProbe().fit(X[:50], y[:50], X_unlabeled=X[50:1000])
    >>> round(probe.score(X[1000:], y[1000:]), 2)
    0.8
    """

    C: Any = argument(POSITIVE, "array-like", StrOptions({"auto"}), default="auto")
    standardize: bool | str = argument("boolean", StrOptions({"auto"}), default="auto")
    cv: Any = argument("cv_object", default=None)
    class_weight: Any = argument(dict, StrOptions({"balanced"}), None, default=None)
    fit_intercept: bool = argument("boolean", default=True)
    tol: float = argument(NOT_NEGATIVE, default=1e-5)
    max_iter: int = argument(COUNT, default=1000)
    device: str | torch.device = argument(str, torch.device, default="auto")

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Fit the probe to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            Labels; samples without one (None, NaN, NA or -1) are left out.
        sample_weight : array-like of shape (n,), optional
        X_unlabeled : array-like of shape (m, n_features), optional
            Features without labels; feature scales are learned from them, too.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y, weights = labeled_samples(self, X, y, sample_weight, dtype=(np.float64, np.float32))
        if self.cv is None:  # a splitter may expect all samples
            X, y, weights = (part[weights > 0] for part in (X, y, weights))
        classes, codes = encoded(y)
        seen = StandardScaler().partial_fit(X, sample_weight=weights)
        if X_unlabeled is not None:
            with naming("X_unlabeled"):
                more = validate_data(self, X_unlabeled, dtype=(np.float64, np.float32), reset=False)
            seen.partial_fit(more)
        if self.class_weight is not None:
            of_class = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weights
            )
            weights = weights * of_class[codes]
        self.__dict__.pop("scores_", None)  # from an earlier fit
        device = resolve_device(self.device)
        automatic = isinstance(self.C, str)
        scalings: tuple[bool, ...] = (self.standardize is True,)
        if automatic and self.standardize == "auto":
            scalings = (False, True)
        some = self._enough_to_choose(codes) if automatic else slice(None)

        def scaled(standardize: bool, rows: Any) -> _Samples:
            return _Samples(
                X[rows], seen, codes[rows], weights[rows], standardize, self.fit_intercept, device
            )

        with own_settings(device):
            samples = [scaled(standardize, some) for standardize in scalings]
            if automatic:
                taken, strength = self._choose(samples, y[some])
                path = [strength / taken.total]
                if len(taken.codes) < len(codes):
                    taken = scaled(taken.standardize, slice(None))
            else:
                (taken,) = samples
                path = self._given_path()
                if len(path) > 1:
                    scores = self._cross_validate(taken, y, path)
                    if len(scores):
                        best = path[int(scores.mean(0).argmax())]
                    else:  # the one nearest to the fallback of "auto"
                        best = min(path, key=lambda c: abs(math.log(c * taken.total)))
                    self.scores_ = scores
                    path = [c for c in path if c <= best]
            problem = _Problem(self, taken)
            for c in path:
                n_iter = problem.minimize(c * taken.total)
            self.coef_, self.intercept_ = taken.in_features(problem.values)
        self.classes_, self.C_, self.n_iter_ = classes, path[-1], n_iter
        self.standardized_ = taken.standardize
        return self

    def _given_path(self) -> list[float]:
        """Return the given values of C in ascending order, without duplicates."""
        with naming("C"):
            path = sorted(set(np.asarray(plain(self.C), dtype=float).ravel().tolist()))
        if not path or not np.isfinite(path).all() or path[0] <= 0:
            raise ValueError(f"C={self.C!r} must be 'auto', or one or more numbers above 0")
        return path

    def _enough_to_choose(self, codes: np.ndarray) -> Any:
        """Select the samples to choose ``C`` by: all, or enough of them, rare classes first."""
        if self.cv is not None or len(codes) <= _CHOSEN_BY:
            return slice(None)
        order = np.random.RandomState(0).permutation(len(codes))
        by_class = order[np.argsort(codes[order], kind="stable")]
        counts = np.bincount(codes)
        places = np.empty(len(codes), int)  # rank of each sample within its class
        places[by_class] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
        rare_first = order[np.argsort(places[order] >= _OF_RARE_CLASSES, kind="stable")]
        return np.sort(rare_first[:_CHOSEN_BY])

    def _choose(self, candidates: Sequence["_Samples"], y: np.ndarray) -> tuple["_Samples", float]:
        """Choose the scaling and strength with the lowest cross-validated log loss."""
        counts, cv = np.bincount(candidates[0].codes), self.cv
        n = counts.sum()
        if counts.max() == 1:  # nothing can be held out
            return candidates[0], 1.0
        if cv is None:
            if 2 * counts[counts > 1].sum() < n:  # too little can be held out
                return candidates[0], 1.0
            cv = StratifiedKFold(min(5, counts.max()), shuffle=True, random_state=0)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # about rare classes
            folds = list(check_cv(cv, y, classifier=True).split(y, y))
        if self.cv is None:  # with many samples, fewer folds suffice
            folds = folds[: max(1, math.ceil(_HELD_OUT_ENOUGH * len(folds) / n))]
        found = [(*self._best_strength(samples, folds), samples) for samples in candidates]
        _, strength, taken = min(found, key=lambda one: one[0])
        return taken, strength

    def _best_strength(self, samples: "_Samples", folds: Sequence) -> tuple[float, float]:
        """Return the lowest log loss along the path, and its strength."""
        parts = []
        for train, test in folds:
            # test only on classes that were trained on
            known = test[np.isin(samples.codes[test], samples.codes[train])]
            if len(known) and len(np.unique(samples.codes[train])) > 1:
                problem = _Problem(self, samples.part(train, torch.float32))  # precise enough here
                parts.append((problem, samples.part(known, torch.float32)))
        if not parts:
            return math.inf, _STRENGTHS[0]
        losses: list[float] = []
        for strength in _STRENGTHS:
            for problem, _ in parts:
                problem.minimize(strength, roughly=True)
            losses.append(_rescaled_log_loss([problem.margins(part) for problem, part in parts]))
            if len(losses) > 2 and min(losses[-2:]) > min(losses):
                break  # past the minimum
        best = int(np.argmin(losses))
        return losses[best], _STRENGTHS[best]

    def _cross_validate(self, samples: "_Samples", y: np.ndarray, path: list[float]) -> np.ndarray:
        """Compute cross-validated accuracies (n_folds, n_C).

        Samples of a class that is missing from the training part count as errors.
        """
        codes, scores, cv = samples.codes, [], self.cv
        known = np.unique(codes)
        if cv is None:
            cv = max(2, min(5, np.bincount(codes).max()))
        folds: Sequence = []
        if len(y) > len(known):
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # on rare classes
                folds = list(check_cv(cv, y, classifier=True).split(y, y))
        learned = [np.unique(codes[train]) for train, _ in folds]
        lacking = len(known) - min((len(some) for some in learned), default=len(known))
        if lacking or not folds:
            happened = (
                f"up to {lacking} of {len(known)} classes have no label in the training part of a "
                "fold, and their samples in the test part count as errors"
                if folds
                else "no class has two labels, so none can be held out"
            )
            warn(f"{happened}; give more labels to choose C by, or a single C", LabelWarning)
        for (train, test), some in zip(folds, learned, strict=True):
            if len(some) < 2:
                continue
            held_out = samples.part(test, samples.dtype)
            problem = _Problem(self, samples.part(train, samples.dtype))
            accuracies = []
            for c in path:
                problem.minimize(c * samples.total)
                accuracies.append(float(problem.is_right(held_out).mean()))
            scores.append(accuracies)
        return np.array(scores).reshape(-1, len(path))

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the score of each class.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
        """
        check_is_fitted(self)
        with naming("X"):
            X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute the probability of each class.

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

    def to_torch(self) -> nn.Module:
        """Return the classifier as a plain torch module.

        Returns
        -------
        nn.Module
            Maps features (n, n_features) to class probabilities (n, n_classes), float32.
        """
        check_is_fitted(self)
        return Linear(self.coef_, self.intercept_, "probabilities").eval()


def _rescaled_log_loss(parts: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Compute the log loss, with all scores multiplied by the factor that minimizes it.

    The factor does not change the predicted classes. Without it, few labels lead to a strong
    penalty, and to scores that hardly differ from class frequencies.
    """
    width = max(margins.shape[1] for margins, _ in parts)
    margins = torch.cat([F.pad(m, (0, width - m.shape[1]), value=-math.inf) for m, _ in parts])
    weights = torch.cat([weights for _, weights in parts])
    scales = torch.logspace(-2, 2, 41, dtype=margins.dtype, device=margins.device)
    losses = torch.logsumexp(margins * scales[:, None, None], 2) @ weights
    return float(losses.min() / weights.sum())


class _Samples:
    """Features whose variances sum to 1, with at most as many dimensions as samples.

    The reduction loses nothing, because the solution lies in the span of the samples.
    """

    def __init__(
        self, X: np.ndarray, seen: StandardScaler, codes: np.ndarray, weights: np.ndarray,
        standardize: bool, center: bool, device: torch.device,
    ):  # fmt: skip
        self.standardize = standardize
        # Apple's GPUs have no double precision
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        mean, variance = seen.mean_, seen.var_
        if not center:
            mean, variance = np.zeros_like(mean), variance + mean**2
        scale = np.ones_like(mean)
        if standardize:
            scale = np.sqrt(variance + 0.01 * variance.mean())
            scale[scale == 0] = 1.0
        self.total = float((variance / scale**2).sum()) or 1.0
        scale *= math.sqrt(self.total)
        self.X = torch.from_numpy(np.ascontiguousarray(X)).to(device)
        self.shift = torch.from_numpy(mean).to(device, self.dtype)
        self.scale = torch.from_numpy(scale).to(device, self.dtype)
        self.codes = codes
        self.weights = torch.from_numpy(weights).to(device, self.dtype)
        self.are_scaled = False
        self.spanned: tuple[Tensor, Tensor] | None = None
        if X.shape[1] > len(X) and device.type != "mps":
            self._reduce()
        elif X.size <= _VALUES_KEPT:
            self.X, self.are_scaled = self.rows(slice(None)), True

    def _reduce(self) -> None:
        """Replace the features by coordinates in the span of the samples."""
        whole = (self.X.to(self.dtype) - self.shift) / self.scale
        products = whole @ whole.T
        # linearly dependent samples need a little more on the diagonal
        squares = products.diagonal()
        squares.add_(1e-10 * float(squares.median() or squares.mean() or 1.0))
        self.spanned = whole, torch.linalg.cholesky(products)
        # row-major, so that products with few columns are 40 times as fast
        self.X, self.are_scaled = self.spanned[1].contiguous(), True

    def rows(self, here: slice) -> Tensor:
        """Return some of the samples, scaled."""
        X = self.X[here].to(self.dtype)
        return X if self.are_scaled else (X - self.shift) / self.scale

    def part(self, rows: np.ndarray, dtype: torch.dtype) -> "_Samples":
        """Select training or held-out samples, with the scaling of all samples."""
        some = copy.copy(self)
        where = torch.from_numpy(rows).to(self.X.device)
        some.X = self.X[where]
        some.X, some.are_scaled, some.dtype = some.rows(slice(None)).to(dtype), True, dtype
        some.codes, some.weights = self.codes[rows], self.weights[where].to(dtype)
        return some

    def in_features(self, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Convert to coefficients (k, n_features) and intercepts (k,) of the original features."""
        coef, intercept = values[:, :-1], values[:, -1]
        if self.spanned is not None:
            whole, factor = self.spanned
            coef = torch.linalg.solve_triangular(factor.T, coef.T, upper=True).T @ whole
        coef = coef / self.scale
        intercept = intercept - coef @ self.shift
        return coef.cpu().double().numpy(), intercept.cpu().double().numpy()


class _Problem:
    """Penalized loss of a linear classifier on some samples, and its minimization."""

    def __init__(self, probe: LinearProbe, samples: _Samples):
        self.probe = probe
        self.samples = samples
        # a fold may lack a class
        self.classes, codes = np.unique(samples.codes, return_inverse=True)
        self.codes = torch.from_numpy(codes).to(samples.X.device)
        n_rows = 1 if len(self.classes) == 2 else len(self.classes)
        width = samples.X.shape[1]
        self.size = max(1, _VALUES_AT_ONCE // max(width, 1))  # 0 if all features are constant
        # coefficients, and the intercept in the last column
        self.values = torch.zeros(n_rows, width + 1, dtype=samples.dtype, device=samples.X.device)

    def minimize(self, strength: float, roughly: bool = False) -> int:
        """Minimize the loss, starting from the current coefficients; return the iterations."""
        strength *= float(self.samples.weights.sum())
        values = self.values.clone().requires_grad_()
        max_iter = int(self.probe.max_iter)
        if roughly:
            max_iter = min(max_iter, _ROUGHLY)
        solver = torch.optim.LBFGS(
            [values],
            max_iter=max_iter,
            max_eval=50 * max_iter,
            tolerance_grad=float(self.probe.tol) * (10 if roughly else 1),
            tolerance_change=64 * torch.finfo(values.dtype).eps,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            found, values.grad = self.loss(values.detach(), strength)
            return found

        solver.step(loss)
        self.values = values.detach()
        n_iter = solver.state[values]["n_iter"]
        if n_iter >= max_iter and not roughly:
            warn(
                f"LinearProbe did not converge in max_iter={self.probe.max_iter} iterations; "
                "give a larger max_iter, or a smaller C",
                ConvergenceWarning,
            )
        return n_iter

    def loss(self, values: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        """Compute the penalized mean loss and its gradient."""
        samples = self.samples
        coef = values[:, :-1]
        loss = (coef.square().sum() / (2 * strength)).reshape(())
        gradient = torch.zeros_like(values)
        gradient[:, :-1] = coef / strength
        total = samples.weights.sum()
        for start in range(0, len(samples.X), self.size):
            here = slice(start, start + self.size)
            X, weights = samples.rows(here), samples.weights[here] / total
            each, by_score = self._of_scores(X @ coef.T + values[:, -1], self.codes[here])
            loss = loss + (weights * each).sum()
            by_score = by_score * weights[:, None]
            gradient[:, :-1] += by_score.T @ X
            if self.probe.fit_intercept:
                gradient[:, -1] += by_score.sum(0)
        return loss, gradient

    def margins(self, others: _Samples) -> tuple[Tensor, Tensor]:
        """Compute scores relative to that of the true class; return them and sample weights."""
        scores = self.scores(others)
        if scores.shape[1] == 1:
            scores = F.pad(scores, (1, 0))
        places = torch.from_numpy(np.searchsorted(self.classes, others.codes))
        return scores - scores.gather(1, places.to(scores.device)[:, None]), others.weights

    def is_right(self, others: _Samples) -> np.ndarray:
        """Return a mask of the other samples whose predicted class is right."""
        return self.classes[best_of(self.scores(others).cpu().numpy())] == others.codes

    def scores(self, others: _Samples) -> Tensor:
        """Compute the scores (n, k) of other samples."""
        return others.rows(slice(None)) @ self.values[:, :-1].T + self.values[:, -1]

    def _of_scores(self, scores: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of each sample and its derivative with respect to the scores."""
        if len(self.values) == 1:
            sign = 2.0 * codes - 1
            margin = sign * scores[:, 0]
            each = F.softplus(-margin)
            return each, (-sign * torch.sigmoid(-margin))[:, None]
        each = F.cross_entropy(scores, codes, reduction="none")
        by_score = scores.softmax(1)
        by_score[torch.arange(len(codes), device=codes.device), codes] -= 1
        return each, by_score
