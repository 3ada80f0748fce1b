"""Conversion of estimators on features to torch modules."""

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
from sklearn.multiclass import OneVsRestClassifier, _ConstantPredictor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, Normalizer, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._utils._export import write_onnx


class Linear(nn.Module):
    """Linear map of features (n, d) to scores (n, k), or to class probabilities.

    Parameters
    ----------
    coef : ndarray of shape (k, d) or (d,)
    intercept : ndarray of shape (k,) or float
    kind : {"values", "classes", "probabilities"}
        Kind of output. A classifier with one row of coefficients has two classes, with scores of
        opposite sign.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, coef: np.ndarray, intercept: Any, kind: str):
        super().__init__()
        self.flat = np.ndim(coef) == 1
        weight = np.atleast_2d(coef)
        bias = np.broadcast_to(intercept, len(weight))
        if kind != "values" and len(weight) == 1:  # softmax of both is the sigmoid of one
            half = 0.5 if kind == "probabilities" else 1.0
            weight, bias = half * np.vstack([-weight, weight]), half * np.append(-bias, bias)
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.float32))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32))
        self.kind = kind

    def forward(self, features: Tensor) -> Tensor:
        scores = features @ self.weight.T + self.bias
        if self.kind == "probabilities":
            return scores.softmax(1)
        return scores[:, 0] if self.flat and self.kind == "values" else scores


class _Scaled(nn.Module):
    """Module that scales, shifts and clips features."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Any, offset: Any, low: float | None = None, high: Any = None):
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float32))
        self.low, self.high = low, high

    def forward(self, features: Tensor) -> Tensor:
        scaled = features * self.scale + self.offset
        return scaled if self.low is None else scaled.clamp(self.low, self.high)


class _Unit(nn.Module):
    """Module that scales features to length 1."""

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features, dim=1)


class _Constant(nn.Module):
    """Module with the same probabilities of two classes for all samples."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, features: Tensor) -> Tensor:
        second = torch.full_like(features[:, :1], self.share)
        return torch.cat([1 - second, second], 1)


class _OfEach(nn.Module):
    """Module that joins the second outputs of several two-class modules."""

    def __init__(self, modules: Iterable[nn.Module]):
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([one(features)[:, 1:] for one in self.each], 1)


def as_module(estimator: Any) -> nn.Module:
    """Convert a fitted estimator to a torch module, on the CPU and in float32.

    Raises
    ------
    TypeError
        If the estimator cannot be converted.
    """
    if hasattr(estimator, "to_torch"):
        return estimator.to_torch()
    if isinstance(estimator, FrozenEstimator):
        return as_module(estimator.estimator)
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        return nn.Sequential(*map(as_module, steps))
    if type(estimator) is FunctionTransformer and estimator.func is None:
        return nn.Identity()
    if type(estimator) is StandardScaler:
        scale = 1.0 if estimator.scale_ is None else 1 / estimator.scale_
        return _Scaled(scale, 0.0 if estimator.mean_ is None else -estimator.mean_ * scale)
    if type(estimator) is MinMaxScaler:
        low_high = estimator.feature_range if estimator.clip else (None, None)
        return _Scaled(estimator.scale_, estimator.min_, *low_high)
    if type(estimator) is Normalizer and estimator.norm == "l2":
        return _Unit()
    if type(estimator) is PCA:
        rows = estimator.components_
        if estimator.whiten:
            rows = rows / np.sqrt(estimator.explained_variance_)[:, None]
        return Linear(rows, -rows @ estimator.mean_, "values")
    if type(estimator) is OneVsRestClassifier and estimator.multilabel_:
        return _OfEach(map(as_module, estimator.estimators_))
    if type(estimator) is _ConstantPredictor:  # for a class that all samples have, or none
        return _Constant(float(estimator.y_[0]))
    if _is_linear(estimator):
        kind = "values"
        if hasattr(estimator, "classes_"):
            kind = "probabilities" if isinstance(estimator, LogisticRegression) else "classes"
        return Linear(estimator.coef_, estimator.intercept_, kind)
    raise TypeError(
        f"{type(estimator).__name__} cannot be converted to a torch module; use estimators of this "
        "package, StandardScaler, MinMaxScaler, Normalizer, PCA, or linear models"
    )


def _is_linear(estimator: Any) -> bool:
    """Return True if class scores or predictions are linear in the features, by ``coef_``."""
    if isinstance(estimator, LinearClassifierMixin):
        return type(estimator).decision_function is LinearClassifierMixin.decision_function
    return isinstance(estimator, LinearModel)  # models with a link function are none


class ExportMixin(BaseEstimator):
    """Mixin that adds ``export_onnx`` to estimators with ``to_torch``."""

    @abstractmethod
    def to_torch(self) -> nn.Module:
        """Return the module that is exported."""

    def _example(self: Any) -> tuple[Tensor, str]:
        """Return two rows of input for the module, and the name of the input."""
        return torch.zeros(2, self.n_features_in_), "features"

    def _class_names(self) -> list | None:
        """Return the classes if the estimator predicts one class for each row, else None."""
        return self.classes_.tolist() if hasattr(self, "classes_") else None

    def export_onnx(self: Any, path: str | os.PathLike) -> None:
        """Write the module of :meth:`to_torch` as an ONNX model, for any number of rows.

        The model of a classifier has two outputs: ``class``, the index of the best class in
        ``classes_``, which the metadata store as ``classes`` in JSON, and ``scores``. With several
        labels per row, it has ``scores`` only. The model of a regressor has one, ``predicted``. The
        input is ``pixels``, of type uint8 if the learner was fitted to uint8, or ``features``.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ImportError
            Without ``pip install 'sklearn-ssl[onnx]'``.
        TypeError
            If the estimator on the features cannot be converted to a torch module.
        """
        check_is_fitted(self)
        example, name = self._example()
        output = "scores" if hasattr(self, "classes_") else "predicted"
        write_onnx(self.to_torch(), path, example, name, output, self._class_names())
