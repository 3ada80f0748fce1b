"""What classifiers and regressors share: rows without a label are left out, labels are numbers."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sklearn_ssl._utils._labels import read_labels, read_targets
from sklearn_ssl._utils._messages import naming
from sklearn_ssl.images import count_images, pick
from sklearn_ssl.probes._unread import score_of_read

__all__ = [
    "DecisionMixin",
    "LabeledClassifierMixin",
    "LabeledRegressorMixin",
    "best_of",
    "encoded",
    "labeled_samples",
    "rows_of",
]


def rows_of(X: Any, is_labeled: np.ndarray) -> Any:
    """Return the images or samples that have a label."""
    return X if is_labeled.all() else pick(X, np.flatnonzero(is_labeled))


def labeled_samples(
    estimator: Any, X: Any, y: Any, sample_weight: Any = None, **checks: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check X, and return the samples that have a label, their labels, and their weights."""
    labels, is_labeled = estimator._read_y(y, count_images(X))
    X = validate_data(estimator, X, **checks)
    with naming("sample_weight"):
        weights = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )[is_labeled]
        if not (np.isfinite(weights).all() and weights.any()):
            raise ValueError("sample_weight must be finite, and not 0 for all labeled samples")
    return rows_of(X, is_labeled), labels, weights


def _scored(estimator: Any, X: Any, y: Any, sample_weight: Any, **options: Any) -> tuple:
    """Return the images or samples that have a label, with their labels and weights."""
    labels, is_labeled = estimator._read_y(y, count_images(X), **options)
    if sample_weight is not None:
        check_consistent_length(is_labeled, sample_weight)
        sample_weight = np.asarray(sample_weight)[is_labeled]
    return rows_of(X, is_labeled), labels, sample_weight


def encoded(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of labels, at least two, and for each label the index of its class."""
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"there is one class, {classes[0]!r}; a classifier needs two at least")
    return classes, codes


def best_of(scores: np.ndarray) -> np.ndarray:
    """Return indices of the best classes by scores (n, n_classes), or (n,) or (n, 1) for two."""
    scores = scores.reshape(len(scores), -1)
    return (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(1)


class LabeledClassifierMixin(ClassifierMixin):
    """Mixin for classifiers that leave out rows without a label."""

    classes_: Any
    predict: Any
    _multilabel: ClassVar[bool] = False

    def _read_y(
        self, y: Any, n_rows: int | None, classes: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return read_labels(y, n_rows, classes=classes, multilabel=self._multilabel)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy on rows that have a label; of several labels, all have to be right.

        Files that cannot be read and are skipped are left out.

        Parameters
        ----------
        X : array-like
            As for ``predict``.
        y : array-like of shape (n,) or (n, n_classes)
            Labels; None, NaN, NA and -1 mean that there is none, unless -1 is a class of the fit.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self)
        X, y, sample_weight = _scored(self, X, y, sample_weight, classes=self.classes_)
        return score_of_read(accuracy_score, y, self.predict(X), sample_weight)


class DecisionMixin(LabeledClassifierMixin):
    """Mixin for ``predict`` by ``decision_function``."""

    classes_: Any
    decision_function: Any

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class with the highest score for each sample.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        places = best_of(self.decision_function(X))
        return self.classes_[places]


class LabeledRegressorMixin(RegressorMixin):
    """Mixin for regressors that leave out rows without a target."""

    predict: Any

    def _read_y(self, y: Any, n_rows: int | None) -> tuple[np.ndarray, np.ndarray]:
        return read_targets(y, n_rows)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the coefficient of determination on the rows that have a target.

        Files that cannot be read and are skipped are left out.

        Parameters
        ----------
        X : array-like
            As for ``predict``.
        y : array-like of shape (n,) or (n, n_targets)
            Targets; None, NaN and NA mean that there is none.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        X, y, sample_weight = _scored(self, X, y, sample_weight)
        return score_of_read(r2_score, y, self.predict(X), sample_weight)
