"""Handling of unlabeled rows and unreadable images, in fits, predictions and scores."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sklearn_ssl._utils._labels import read_labels, read_targets
from sklearn_ssl._utils._messages import naming
from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images import count_images, pick

_ROWS_FOR_SCALES = 2000  # unlabeled images from which feature scales are learned


def read_rows(features: Any, what: str = "images in X") -> np.ndarray:
    """Return a mask (n,) of the images that were read; learners return rows of NaN for others.

    Errors call the images ``what``.

    Raises
    ------
    ImageReadError
        If no image was read.
    """
    values = np.asarray(features)
    if values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] == 0:
        return np.ones(values.shape[:1], bool)
    read = ~np.isnan(values).all(1)
    if len(read) and not read.any():
        raise ImageReadError(f"none of the {len(read)} {what} can be read")
    return read


def of_read(function: Callable[[Any], np.ndarray], features: Any) -> np.ndarray:
    """Apply a function to the features of images that were read; other rows are NaN or None."""
    read = read_rows(features)
    if read.all():
        return function(features)
    return with_unread(function(_safe_indexing(features, np.flatnonzero(read))), read)


def with_unread(found: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Add rows for images that were not read: NaN for floats, None for classes."""
    of_floats = found.dtype.kind == "f"
    dtype = found.dtype if of_floats else object
    filled = np.full((len(read), *found.shape[1:]), np.nan if of_floats else None, dtype)
    filled[read] = found
    return filled


def score_of_read(
    metric: Callable[..., float], y: Any, predicted: np.ndarray, sample_weight: Any
) -> float:
    """Compute a metric over the images that were read."""
    of_classes = predicted.dtype == object
    if of_classes or predicted.dtype.kind == "f":
        unread = predicted == np.array(None) if of_classes else np.isnan(predicted)
        rows = np.flatnonzero(~unread.reshape(len(predicted), -1).any(1))
        if len(rows) < len(predicted):
            y, predicted = _safe_indexing(y, rows), predicted[rows]
            predicted = np.array(predicted.tolist()) if of_classes else predicted
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
    return float(metric(y, predicted, sample_weight=sample_weight))


def rows_of(X: Any, is_labeled: np.ndarray) -> Any:
    """Return the images or samples that have a label."""
    return X if is_labeled.all() else pick(X, np.flatnonzero(is_labeled))


def rows_for_scales(rows: np.ndarray) -> np.ndarray:
    """Return the rows to learn feature scales from: at most 2,000, evenly spread."""
    n = min(len(rows), _ROWS_FOR_SCALES)
    return rows[np.linspace(0, len(rows) - 1, n).astype(int)]


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
        raise ValueError(f"y has only one class, {classes[0]!r}; give labels of at least two")
    return classes, codes


def best_of(scores: np.ndarray) -> np.ndarray:
    """Return the indices of the best classes; scores are (n, n_classes), or (n,) or (n, 1)."""
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
        """Compute the accuracy on labeled rows; with several labels, all of them must be right.

        Skipped files are left out.

        Parameters
        ----------
        X : array-like
            Images or features, as for ``predict``.
        y : array-like of shape (n,) or (n, n_classes)
            Labels. None, NaN, NA and -1 mark rows without one, unless -1 is a class of the fit.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self)
        X, y, sample_weight = _scored(self, X, y, sample_weight, classes=self.classes_)
        return score_of_read(accuracy_score, y, self.predict(X), sample_weight)


class DecisionMixin(LabeledClassifierMixin):
    """Mixin for classifiers that predict by ``decision_function``."""

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
        """Compute the coefficient of determination on rows that have a target.

        Skipped files are left out.

        Parameters
        ----------
        X : array-like
            Images or features, as for ``predict``.
        y : array-like of shape (n,) or (n, n_targets)
            Targets. None, NaN and NA mark rows without one.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        X, y, sample_weight = _scored(self, X, y, sample_weight)
        return score_of_read(r2_score, y, self.predict(X), sample_weight)
