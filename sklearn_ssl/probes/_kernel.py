"""Kernel ridge regression on features, on the device: for classes, several labels, or numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, MultiOutputMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_ssl._labeled._leave_one_out import (
    leave_one_out,
    mass_of_classes,
    of_all_kinds,
    smoothed_error,
)
from sklearn_ssl._labeled._mixins import (
    DecisionMixin,
    LabeledRegressorMixin,
    encoded,
    labeled_samples,
)
from sklearn_ssl._labeled._to_torch import ExportMixin
from sklearn_ssl._utils._estimators import (
    POSITIVE,
    DeclaredArguments,
    StrOptions,
    all_or_nothing,
    argument,
)
from sklearn_ssl._utils._messages import naming
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import own_settings, resolve_device

_PAIRS_AT_ONCE = 2**24
_ALPHAS = [10.0 ** (k / 2) for k in range(-8, 3)]  # 1e-4 to 10
_GAMMAS = [2.0**k for k in range(-3, 3)]  # 1/8 to 4
_USUAL_ALPHA, _USUAL_GAMMA, _USUAL_TEMPERATURE = 0.03, 0.5, 0.3  # if no sample can be left out
_CHOOSE_BY = 1024  # samples to choose by; the eigendecomposition of more is slow
_MOST_IN_DOUBLE = 2048  # samples, up to which the kernel is in double precision
_REFINEMENTS, _LEAST_IN_SINGLE = 3, 1e-3  # of solutions in single precision; least alpha for it
_ADJUST_BY = 4096  # samples to adjust alpha by
_ROWS_AT_ONCE = 1024
_LARGE = 1e30  # the distance between samples this large may overflow float32
_AUTO = StrOptions({"auto"})

Loss = Callable[[np.ndarray, np.ndarray], float]  # of predictions, and the rows they are for


class _KernelMachine(ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Base of kernel ridge regression of targets (n, k), with a Gaussian kernel."""

    alpha: float | str = argument(POSITIVE, _AUTO, default="auto")
    gamma: float | str = argument(POSITIVE, _AUTO, default="auto")
    device: str | torch.device = argument(str, torch.device, default="auto")

    def _solve(
        self, X: np.ndarray, targets: np.ndarray, weights: np.ndarray, loss: Loss, intercept: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve for sample weights; return leave-one-out predictions of some rows, and the rows."""
        if max(X.max(), -X.min()) > _LARGE:
            X = X.astype(np.float64)
        center, scale = _center_and_scale(X, weights)
        X = (X - center) / X.dtype.type(scale)
        some = of_all_kinds(targets, _CHOOSE_BY)
        device = self._device()
        with own_settings(device), torch.no_grad():
            samples, wanted, root = (
                torch.from_numpy(np.ascontiguousarray(part)).to(device)
                for part in (X, targets, np.sqrt(weights)[:, None])
            )
            alpha, gamma = self._choose(samples, wanted, root, some, loss, intercept)
            kernel = _kernel_of_samples(samples, gamma, root)

            if self.alpha == "auto" and len(X) > len(some):  # more samples may need another alpha
                alpha = _adjusted(alpha, kernel, wanted, root, some, loss, intercept)
            found = _solved(kernel, wanted, root, alpha, some, intercept)
            if found is None and kernel.dtype == torch.float32:
                kernel = kernel.double()
                found = _solved(kernel, wanted, root, alpha, some, intercept)
            if found is None:
                raise ValueError(
                    f"alpha={alpha:g} is too small: the kernel of the samples cannot be inverted "
                    "within rounding; give a larger alpha"
                )
            dual, offset = found.refined(kernel, wanted, root)
            self.dual_coef_ = (root * dual).cpu().numpy()
            self.intercept_ = offset.cpu().numpy()
        self.alpha_, self.gamma_ = alpha, gamma
        self.X_fit_, self.center_, self.scale_ = X, center, scale
        return found.left_out, some

    def _choose(
        self, samples: Tensor, wanted: Tensor, root: Tensor, some: np.ndarray, loss: Loss,
        intercept: bool,
    ) -> tuple[float, float]:  # fmt: skip
        """Choose the alpha and gamma whose leave-one-out predictions have the smallest loss."""
        unit = float(root.square().median())  # typical sample weight
        usual = [unit * alpha for alpha in (*_ALPHAS, _USUAL_ALPHA)]
        alphas = usual[:-1] if self.alpha == "auto" else [float(self.alpha)]
        gammas = _GAMMAS if self.gamma == "auto" else [float(self.gamma)]
        if len(alphas) == len(gammas) == 1:
            return alphas[0], gammas[0]
        samples, wanted, root = samples[some], wanted[some], root[some]
        distances, losses = _distances(samples, samples), []
        for gamma in gammas:
            kernel = distances.mul(-gamma).exp_().double().mul_(root).mul_(root.T)
            kernel.diagonal().copy_(root[:, 0].square())
            values, vectors = torch.linalg.eigh(kernel)
            found = leave_one_out(
                values.clamp_(min=0), vectors, wanted, alphas,
                weights=root[:, 0].square(), intercept=intercept,
            )  # fmt: skip
            losses.append([loss(each, some) for each in found.cpu().numpy()])
        if np.isnan(losses).all():
            return (
                usual[-1] if self.alpha == "auto" else alphas[0],
                _USUAL_GAMMA if self.gamma == "auto" else gammas[0],
            )
        best = np.unravel_index(np.nanargmin(losses), np.shape(losses))
        return alphas[best[1]], gammas[best[0]]

    def _predicted(self, X: Any) -> np.ndarray:
        """Predict targets (n, k)."""
        check_is_fitted(self)
        with naming("X"):
            X = validate_data(self, X, dtype=self.X_fit_.dtype, reset=False)
        device = self._device()
        found = np.empty((len(X), self.dual_coef_.shape[1]))
        size = max(1, _PAIRS_AT_ONCE // len(self.X_fit_))
        with own_settings(device), torch.no_grad():
            samples = torch.from_numpy(self.X_fit_).to(device)
            weights = torch.from_numpy(self.dual_coef_).to(device)
            for start in range(0, len(X), size):
                some = (X[start : start + size] - self.center_) / X.dtype.type(self.scale_)
                some = torch.from_numpy(np.ascontiguousarray(some)).to(device)
                kernel = _kernel(some, samples, self.gamma_)
                found[start : start + size] = (kernel @ weights).cpu().numpy()
        return found + self.intercept_

    def to_torch(self) -> nn.Module:
        """Return the estimator as a plain torch module.

        Returns
        -------
        nn.Module
            Maps features (n, n_features) to class probabilities (n, n_classes), or to targets,
            float32.
        """
        check_is_fitted(self)
        return _KernelSum(self, self._finish()).eval()

    _finish: ClassVar[Callable[..., nn.Module]]  # defined by subclasses

    def _device(self) -> torch.device:
        device = resolve_device(self.device)
        # Apple's GPUs have no double precision, which inverting a kernel needs
        return torch.device("cpu") if device.type == "mps" else device


class KernelProbe(DecisionMixin, _KernelMachine):
    """Kernel ridge classifier with a Gaussian kernel [1]_.

    Use it when accuracy is all that matters: it models feature interactions, which a linear probe
    does not, and its run time hardly depends on the dimension of the features. Time grows with the
    cube of the number of samples, memory with its square: 10,000 samples take 3 GB.

    Features are centered, and scaled by a common factor: their offset and unit do not matter, their
    relative scales do. ``alpha`` and ``gamma`` are chosen by the leave-one-out error, slightly
    smoothed and in closed form [2]_. With more than 1,024 samples, they are chosen on 1,024 of them
    from all classes; then ``alpha`` is adjusted as long as that lowers the leave-one-out error of
    these samples in fits to up to 4,096 samples. A class with a single sample does not count; if
    all classes have one, ``alpha`` is 0.03 and ``gamma`` is 0.5. Copies of a sample count as one,
    with their total weight.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty; the kernel of a sample with itself is 1.
    gamma : float or "auto", default="auto"
        Sharpness of the kernel, which is exp(-gamma d / m) for two samples with squared distance d;
        m is the mean of d over all pairs.
    class_weight : dict, {"balanced"} or None, default=None
        Class weights, as in scikit-learn. They cannot be used with several labels per sample.
    device : str or torch.device, default="auto"
        Device of the computation; ``"auto"`` means a GPU if there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes; with several labels per sample, the indices of the columns of ``y``.
    alpha_, gamma_ : float
        Values used.
    temperature_ : float
        Divisor of the scores before the softmax, fitted to leave-one-out scores.
    dual_coef_ : ndarray of shape (n, n_classes), float64
        Weights of the samples.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts; 0 unless there are several labels per sample.
    X_fit_ : ndarray of shape (n, n_features), float32 or float64
        Samples, centered and scaled; distances are computed in their type.
    center_ : ndarray of shape (n_features,)
        Mean of the samples.
    scale_ : float
        Root mean squared distance between two samples.
    n_features_in_ : int

    See Also
    --------
    KernelRegressor : Kernel ridge regression of numeric targets.

    References
    ----------
    .. [1] Rifkin, Yeo and Poggio (2003), Regularized Least-Squares Classification.
    .. [2] Rifkin and Lippert (2007), Notes on Regularized Least Squares, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl.probes import KernelProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = KernelProbe().fit(X[:1000], y[:1000])
    >>> round(probe.score(X[1000:], y[1000:]), 2)
    0.97
    >>> probe.predict_proba(X[1000:1002]).max(1).round(1)
    array([1., 1.])
    """

    class_weight: Any = argument(dict, StrOptions({"balanced"}), None, default=None)

    _multilabel: ClassVar[bool] = True

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the probe to features and labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,) or (n, n_labels)
            Labels; samples without one (None, NaN, NA or -1) are left out. With several labels per
            sample, 1 if it has the label and 0 if not.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        X, y, weights = labeled_samples(self, X, y, sample_weight, dtype=(np.float64, np.float32))
        several = y.ndim == 2
        X, y, weights = (part[weights > 0] for part in (X, y, weights))
        if several:
            if self.class_weight is not None:
                raise ValueError(
                    "class_weight needs one class per sample, but y has several labels; give "
                    "sample_weight, or fit one probe per label"
                )
            classes, targets = np.arange(y.shape[1]), 2.0 * y - 1
        else:
            classes, codes = encoded(y)
            targets = np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0)
            if self.class_weight is not None:
                weights = weights * compute_class_weight(
                    self.class_weight, classes=classes, y=y, sample_weight=weights
                )[codes]  # fmt: skip
                X, targets, weights = (part[weights > 0] for part in (X, targets, weights))
        X, targets, weights = _without_copies(X, targets, weights)
        mass = mass_of_classes(targets, weights, several)

        def loss(scores: np.ndarray, some: np.ndarray) -> float:
            return smoothed_error(scores, mass[some], several)

        left_out, some = self._solve(X, targets, weights, loss, intercept=several)
        self.temperature_ = _best_temperature(left_out, mass[some], several)
        self.classes_, self._several = classes, several
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute class scores: near 1 for the class of a sample, near -1 for other classes.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            With two classes, of shape (n,): the scores of the second class.
        """
        found = self._predicted(X)
        return found[:, 1] if len(self.classes_) == 2 and not self._several else found

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities, calibrated on leave-one-out predictions.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            With several labels per sample, the probability of each label.
        """
        scores = self._predicted(X) / self.temperature_
        return expit(2 * scores) if self._several else softmax(scores, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each sample, or its labels.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
        """
        check_is_fitted(self)
        return (self._predicted(X) > 0).astype(int) if self._several else super().predict(X)

    def _finish(self) -> nn.Module:
        return _Probabilities(self.temperature_, self._several)

    def _class_names(self) -> list | None:
        return None if self._several else super()._class_names()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.class_weight is None
        return tags


class KernelRegressor(MultiOutputMixin, LabeledRegressorMixin, _KernelMachine):
    """Kernel ridge regression with a Gaussian kernel and an intercept [1]_.

    It is the counterpart of :class:`KernelProbe` for numeric targets. ``alpha`` and ``gamma`` are
    chosen by the squared leave-one-out error; with several targets, the error of each is measured
    in units of its variance.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty; the kernel of a sample with itself is 1.
    gamma : float or "auto", default="auto"
        Sharpness of the kernel, which is exp(-gamma d / m) for two samples with squared distance d;
        m is the mean of d over all pairs.
    device : str or torch.device, default="auto"
        Device of the computation; ``"auto"`` means a GPU if there is one.

    Attributes
    ----------
    alpha_, gamma_ : float
        Values used.
    dual_coef_ : ndarray of shape (n, n_targets), float64
        Weights of the samples.
    intercept_ : ndarray of shape (n_targets,)
    X_fit_ : ndarray of shape (n, n_features), float32 or float64
        Samples, centered and scaled; distances are computed in their type.
    center_ : ndarray of shape (n_features,)
        Mean of the samples.
    scale_ : float
        Root mean squared distance between two samples.
    n_features_in_ : int

    References
    ----------
    .. [1] Rifkin and Lippert (2007), Notes on Regularized Least Squares.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_ssl.probes import KernelRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(KernelRegressor().fit(X[:300], y[:300]).score(X[300:], y[300:]), 1)
    0.5
    """

    @all_or_nothing
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the regressor to features and targets.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,) or (n, n_targets)
            Targets; samples without one (None, NaN or NA) are left out.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        X, y, weights = labeled_samples(
            self, X, y, sample_weight, dtype=(np.float64, np.float32), ensure_min_samples=2
        )
        one = y.ndim == 1
        X, targets, weights = _without_copies(
            *(part[weights > 0] for part in (X, y.reshape(len(y), -1).astype(float), weights))
        )
        mean = np.average(targets, axis=0, weights=weights)
        unit = np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=weights))
        unit[unit == 0] = 1

        def loss(predicted: np.ndarray, some: np.ndarray) -> float:
            errors = ((predicted - targets[some]) / unit) ** 2
            return float(np.average(errors.mean(1), weights=weights[some]))

        self._solve(X, targets, weights, loss, intercept=True)
        self._one = one
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,) or (n, n_targets)
        """
        found = self._predicted(X)
        return found[:, 0] if self._one else found

    def _finish(self) -> nn.Module:
        return nn.Flatten(0) if self._one else nn.Identity()


class _KernelSum(nn.Module):
    """Module for kernel predictions in double precision, with a final step."""

    def __init__(self, machine: Any, finish: nn.Module):
        super().__init__()
        self.values = nn.ParameterDict(
            {
                name: torch.as_tensor(np.array(getattr(machine, f"{name}_")), dtype=torch.float64)
                for name in ("X_fit", "dual_coef", "intercept", "center", "scale", "gamma")
            }
        )
        self.finish = finish
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        v = self.values
        some = (features.double() - v["center"]) / v["scale"]
        squares = some.square().sum(1, keepdim=True) + v["X_fit"].square().sum(1)
        distances = (squares - 2 * some @ v["X_fit"].T).clamp(min=0)
        predicted = (-v["gamma"] * distances).exp() @ v["dual_coef"] + v["intercept"]
        return self.finish(predicted).float()


class _Probabilities(nn.Module):
    """Module that converts scores to probabilities of classes, or of each label."""

    def __init__(self, temperature: float, several: bool):
        super().__init__()
        self.temperature = temperature
        self.several = several

    def forward(self, scores: Tensor) -> Tensor:
        scores = scores / self.temperature
        return (2 * scores).sigmoid() if self.several else scores.softmax(1)


def _distances(some: Tensor, samples: Tensor) -> Tensor:
    """Compute squared distances of scaled samples, in their type."""
    distances = some.square().sum(1, keepdim=True) + samples.square().sum(1)
    return distances.addmm_(some, samples.T, alpha=-2).clamp_(min=0)


def _kernel(some: Tensor, samples: Tensor, gamma: float) -> Tensor:
    """Compute the kernel of scaled samples and all others, in double precision."""
    return _distances(some, samples).mul_(-gamma).exp_().double()


def _kernel_of_samples(samples: Tensor, gamma: float, root: Tensor) -> Tensor:
    """Compute the kernel matrix of scaled samples, with rows and columns multiplied by ``root``.

    It is computed a few rows at a time, up to the diagonal, and in single precision if there are
    many samples of that type, as it takes half the time and memory.
    """
    n = len(samples)
    single = samples.dtype == torch.float32 and n > _MOST_IN_DOUBLE
    dtype = torch.float32 if single else torch.float64
    kernel = torch.empty(n, n, dtype=dtype, device=samples.device)
    root = root.to(dtype)
    size = max(1, _PAIRS_AT_ONCE // n)
    for start in range(0, n, size):
        rows, end = slice(start, start + size), start + size
        block = _distances(samples[rows], samples[:end]).mul_(-gamma).exp_().to(dtype)
        kernel[rows, :end] = block.mul_(root[rows]).mul_(root[:end].T)
        kernel[:start, rows] = kernel[rows, :start].T
    kernel.diagonal().copy_(root[:, 0].square())
    return kernel


def _adjusted(
    alpha: float, kernel: Tensor, wanted: Tensor, root: Tensor, some: np.ndarray, loss: Loss,
    intercept: bool,
) -> float:  # fmt: skip
    """Move alpha, by steps, to where fits to many samples have the smallest leave-one-out loss.

    Of more than 4,096 samples, the fits are to 4,096 of them, with those that are left out.
    """
    rows = np.arange(len(kernel))
    if len(rows) > _ADJUST_BY:
        others = np.setdiff1d(rows, some)
        more = np.linspace(0, len(others) - 1, _ADJUST_BY - len(some)).astype(int)
        rows = np.sort(np.concatenate([some, others[more]]))
        kernel, wanted, root = kernel[rows][:, rows], wanted[rows], root[rows]
    places, kernel = np.searchsorted(rows, some), kernel.double()

    def loss_of(alpha: float) -> float:
        found = _solved(kernel, wanted, root, alpha, places, intercept)
        return np.inf if found is None else loss(found.left_out, some)

    least, chosen = loss_of(alpha), alpha
    for factor in (10**-0.5, 10**0.5):
        while (less := loss_of(alpha * factor)) < least:
            alpha, least = alpha * factor, less
        if alpha != chosen:
            break  # the other direction is worse
    return alpha


@dataclass
class _Solution:
    """Solution of kernel ridge regression for one penalty.

    Parameters
    ----------
    alpha : float
    factor : Tensor of shape (n, n)
        Cholesky factor of the penalized kernel, in the kernel's precision.
    solved : Tensor of shape (n, k + 1), float64
        The inverse of the penalized kernel, times the weighted targets and the roots of weights.
    left_out : ndarray of shape (m, k)
        Leave-one-out predictions of some samples.
    intercept : bool
    """

    alpha: float
    factor: Tensor
    solved: Tensor
    left_out: np.ndarray
    intercept: bool

    def refined(self, kernel: Tensor, wanted: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of the samples and the offset, in double precision."""
        if self.factor.dtype == torch.float32:
            both = torch.cat([root * wanted, root], 1)
            for _ in range(_REFINEMENTS):
                rest = both - self.alpha * self.solved
                for rows in torch.arange(len(kernel), device=kernel.device).split(_ROWS_AT_ONCE):
                    rest[rows] -= kernel[rows].double() @ self.solved
                self.solved += torch.cholesky_solve(rest.float(), self.factor)
        return _with_offset(self.solved, wanted, root, self.intercept)


def _with_offset(
    solved: Tensor, wanted: Tensor, root: Tensor, intercept: bool
) -> tuple[Tensor, Tensor]:
    """Return weights of the samples and the offset of a solution."""
    dual, constant = solved[:, :-1], solved[:, -1:]
    if not intercept:
        return dual, torch.zeros_like(wanted[0])
    offset = (constant * root * wanted).sum(0) / (root * constant).sum()
    return dual - constant * offset, offset


def _solved(
    kernel: Tensor, wanted: Tensor, root: Tensor, alpha: float, some: np.ndarray, intercept: bool
) -> _Solution | None:
    """Solve for sample weights and offset; compute leave-one-out predictions of some samples.

    Return None if the penalty is too small to invert the kernel within rounding.
    """
    penalized = kernel.clone()
    penalized.diagonal().add_(alpha)
    failed = torch.zeros((), dtype=torch.int32, device=kernel.device)
    factor, _ = torch.linalg.cholesky_ex(penalized, out=(penalized, failed))
    least = _LEAST_IN_SINGLE * root.square().max()
    if failed or (kernel.dtype == torch.float32 and alpha < least):
        return None
    both = torch.cat([root * wanted, root], 1)
    solved = torch.cholesky_solve(both.to(kernel.dtype), factor).double()
    each = torch.zeros(len(kernel), len(some), dtype=kernel.dtype, device=kernel.device)
    each[some, torch.arange(len(some), device=kernel.device)] = 1
    inverse = torch.linalg.solve_triangular(factor, each, upper=False).square().sum(0).double()
    if intercept:
        constant = solved[:, -1:]
        inverse = inverse - constant[some, 0].square() / (root * constant).sum()
    dual, _ = _with_offset(solved, wanted, root, intercept)
    left_out = wanted[some] - dual[some] / (inverse[:, None] * root[some])
    return _Solution(alpha, factor, solved, left_out.cpu().numpy(), intercept)


def _center_and_scale(X: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Compute the mean of samples and their root mean squared distance, without overflow."""
    peak = float(max(X.max(), -X.min())) or 1.0
    Z = X / X.dtype.type(peak)
    total = weights.sum()
    center = np.einsum("i,ij->j", weights, Z, dtype=np.float64) / total
    Z -= center.astype(X.dtype)
    squares = np.einsum("ij,ij->i", Z, Z, dtype=np.float64)
    pairs = total**2 - (weights**2).sum()  # total weight of pairs of different samples
    mean = 2 * total * (weights @ squares) / pairs if pairs > 0 else 0.0
    return (peak * center).astype(X.dtype), peak * float(np.sqrt(mean)) or 1.0


def _without_copies(
    X: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge copies of a sample into one, with total weight and mean target; the fit is the same.

    Otherwise, a copy would reveal the target of a sample that is left out.
    """
    seen: dict[bytes, int] = {}
    places = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in X + X.dtype.type(0)])
    if len(seen) == len(X):
        return X, targets, weights
    _, first = np.unique(places, return_index=True)
    total = np.bincount(places, weights)
    sums = np.stack([np.bincount(places, weights * column) for column in targets.T], 1)
    return X[first], sums / total[:, None], total


def _best_temperature(scores: np.ndarray, mass: np.ndarray, several: bool) -> float:
    """Find the temperature with the smallest log loss.

    One extra sample, shared equally by all classes, is assumed: otherwise the temperature would be
    0 if all predictions are right.
    """
    total = mass.sum()
    if total == 0:
        return _USUAL_TEMPERATURE
    n = np.count_nonzero(mass.reshape(len(mass), -1).sum(1))
    smoothed = (n * mass + mass.sum(-1, keepdims=True) / mass.shape[-1]) / (n + 1)

    def loss(log_temperature: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        if several:
            logs = np.stack([log_expit(-2 * scaled), log_expit(2 * scaled)], 2)
        else:
            logs = log_softmax(scaled, axis=1)
        return -float((smoothed * logs).sum() / total)

    found = minimize_scalar(loss, bounds=(-6.0, 4.0), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))
