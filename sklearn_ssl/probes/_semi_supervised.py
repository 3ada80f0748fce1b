"""Base of classifiers and regressors on a learner's features."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Tensor, nn

from sklearn_ssl._utils._arguments import DeclaredArguments, argument
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.base._checks import (
    all_or_nothing,
    inner_training,
    lost_if_interrupted,
    warn_of_interruption,
)
from sklearn_ssl.base._saved import SavedMixin
from sklearn_ssl.exceptions import TrainingInterrupted
from sklearn_ssl.images import count_images, opened, pick
from sklearn_ssl.probes._labeled import rows_of
from sklearn_ssl.probes._modules import ExportMixin, as_module
from sklearn_ssl.probes._unread import of_read, read_rows

__all__ = ["SelfSupervised", "if_head_has", "rows_for_scales"]

_ROWS_FOR_SCALES = 2000  # images without labels


class SelfSupervised(MetaEstimatorMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Base for a learner fitted to all images, and an estimator fitted to features of some."""

    learner: Any = argument(kw_only=False)

    _head: ClassVar[str]
    _read_y: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]

    @all_or_nothing
    def fit(self, X: Any, y: Any, *, X_unlabeled: Any = None) -> Self:
        """Pretrain on all images, and fit the features of those that have labels.

        Parameters
        ----------
        X : array-like
            Images, as for the learner.
        y : array-like of shape (n,), or (n, k) for several labels or targets
            Those that are missing are marked, and there is one for each image. Of several, images
            are taken that have all of them.
        X_unlabeled : array-like, optional
            More images without labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the images or the labels are not usable.
        TrainingInterrupted
            After Ctrl-C; a KeyboardInterrupt. The head is fitted to the features of what a learner
            learned until then.
        """
        if not hasattr(self.learner, "transform"):
            raise TypeError(
                f"learner={self.learner!r} has no transform; give a learner, such as SimCLR()"
            )
        X = opened(X)
        labels, is_labeled = self._read_y(y, count_images(X))
        self._make_head(labels)  # refuses labels before anything is trained
        learner = clone(self.learner)
        more = {} if X_unlabeled is None else {"X_unlabeled": X_unlabeled}
        if not isinstance(learner, PretextLearner):  # others may be half fitted
            with lost_if_interrupted(self, learner):
                learner.fit(X, None, **more)  # a FrozenEstimator wants y
            return self._keep(learner, X, labels, is_labeled, X_unlabeled)
        try:
            with inner_training():
                learner.fit(X, **more)
        except TrainingInterrupted:
            self._keep(learner, X, labels, is_labeled, X_unlabeled)
            warn_of_interruption(learner, kept_by=self)
            raise
        return self._keep(learner, X, labels, is_labeled, X_unlabeled)

    def _keep(
        self, learner: Any, X: Any, labels: np.ndarray, is_labeled: np.ndarray, X_unlabeled: Any
    ) -> Self:
        """Fit the head, and keep it and the learner."""
        features = learner.transform(rows_of(X, is_labeled))
        read = read_rows(features)
        if not read.all():
            features, labels = _safe_indexing(features, np.flatnonzero(read)), labels[read]
        head, more = self._make_head(labels), {}
        if has_fit_parameter(head, "X_unlabeled"):
            others = pick(X, rows_for_scales(np.flatnonzero(~is_labeled)))
            if is_labeled.all() and X_unlabeled is not None:
                others = opened(X_unlabeled)
                others = pick(others, rows_for_scales(np.arange(count_images(others))))
            if count_images(others):
                unlabeled = learner.transform(others)
                more["X_unlabeled"] = unlabeled[read_rows(unlabeled)]
        head.fit(features, labels, **more)
        self.learner_, self.n_labeled_ = learner, len(labels)
        setattr(self, f"{self._head}_", head)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(learner, name):
                setattr(self, name, getattr(learner, name))
            else:
                self.__dict__.pop(name, None)
        return self

    def _make_head(self, labels: np.ndarray | None = None) -> Any:
        given = getattr(self, self._head)
        if given is None:
            return self._usual_head(labels)
        if labels is not None and not (hasattr(given, "fit") and hasattr(given, "predict")):
            raise TypeError(f"{self._head}={given!r} must be a {self._head} or None")
        return clone(given)

    @property
    def _fitted_head(self) -> Any:
        check_is_fitted(self)
        return getattr(self, f"{self._head}_")

    def _features(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.learner_.transform(X)

    def _of_read(self, method: str, X: Any) -> np.ndarray:
        """Apply the head to images, with NaN or None for those that cannot be read."""
        return of_read(getattr(self._fitted_head, method), self._features(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict from the features of images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            With ``on_error="skip"`` in the learner, NaN (or None among classes) for files that
            cannot be read.
        """
        return self._of_read("predict", X)

    def to_torch(self) -> nn.Module:
        """Return the learner and what is fitted to its features, as one module of torch alone.

        Returns
        -------
        nn.Module
            Takes pixels (n, channels, height, width) as they were fitted, in any type. Of a
            classifier it gives scores (n, n_classes), float32: probabilities, if it is a logistic
            regression or of this package.

        Raises
        ------
        TypeError
            If it is not known how to make a module of a step.
        """
        check_is_fitted(self)
        return nn.Sequential(as_module(self.learner_), as_module(self._fitted_head)).eval()

    def _example(self) -> tuple[Tensor, str]:
        first = self.learner_[0] if isinstance(self.learner_, Pipeline) else self.learner_
        return (first._example(), "pixels") if hasattr(first, "_example") else super()._example()

    def _class_names(self) -> list | None:
        head = self._fitted_head
        last = head[-1] if isinstance(head, Pipeline) else head
        if hasattr(last, "_class_names"):
            return last._class_names()
        return None if getattr(last, "multilabel_", False) else super()._class_names()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "learner_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if hasattr(self.learner, "__sklearn_tags__"):
            tags.input_tags = self.learner.__sklearn_tags__().input_tags
        head = getattr(self, self._head)
        if head is None:
            tags.target_tags.multi_output = True
        elif hasattr(head, "__sklearn_tags__"):
            tags.target_tags.multi_output = head.__sklearn_tags__().target_tags.multi_output
        return tags


def rows_for_scales(rows: np.ndarray) -> np.ndarray:
    """Return as many rows as scales are learned from, evenly spread."""
    n = min(len(rows), _ROWS_FOR_SCALES)
    return rows[np.linspace(0, len(rows) - 1, n).astype(int)]


def if_head_has(method: str) -> Any:
    """Make methods available if what is fitted to the features has them."""

    def check(self: Any) -> bool:
        given = getattr(self, f"{self._head}_", None) or self._make_head()
        getattr(given, method)  # an AttributeError says what lacks it
        return True

    return available_if(check)
