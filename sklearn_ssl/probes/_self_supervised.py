"""Classifiers and regressors for many images of which few have labels."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl._utils._warnings import warn
from sklearn_ssl.probes._semi_supervised import SelfSupervised, if_head_has
from sklearn_ssl.probes._unread import score_of_read

__all__ = ["SelfSupervisedClassifier", "SelfSupervisedRegressor"]


class SelfSupervisedClassifier(ClassifierMixin, SelfSupervised):
    """A classifier for many images of which few have labels.

    The learner is pretrained on all of them, and the classifier is fitted to the features of those
    with a label. As in :mod:`sklearn.semi_supervised`, ``y == -1`` marks images without one; where
    the only other value is 1, both are classes.

    Parameters
    ----------
    learner : PretextLearner
        Or any transformer of images.
    classifier : classifier or None, default=None
        ``None`` takes a logistic regression on standardized features, which are held to the range
        that labeled images span: what hardly varies among few may be far outside of it elsewhere.

    Attributes
    ----------
    learner_, classifier_ : estimators
        The fitted ones.
    classes_ : ndarray of shape (n_classes,)
    n_labeled_ : int
        Number of images that the classifier was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SelfSupervisedClassifier, SimCLR
    >>> digits = load_digits()
    >>> y = np.where(np.arange(1797) < 100, digits.target, -1)  # 100 labels
    >>> classifier = SelfSupervisedClassifier(SimCLR(max_epochs=1, random_state=0))
    >>> classifier = classifier.fit(digits.images, y)
    >>> bool(classifier.score(digits.images[1000:], digits.target[1000:]) > 0.5)
    True
    """

    classifier: Any = argument(default=None, kw_only=False)

    _head: ClassVar[str] = "classifier"

    @staticmethod
    def _usual_head() -> Any:
        return make_pipeline(*_scaling(), LogisticRegression(max_iter=1000))

    @staticmethod
    def _check_y(y: Any) -> np.ndarray:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _is_labeled(self, y: np.ndarray) -> np.ndarray:
        everything = np.ones(len(y), bool)
        if y.dtype.kind in "US" or (self.__sklearn_is_fitted__() and -1 in self.classes_):
            return everything
        return np.asarray(y != -1)

    def _labeled_in_fit(self, y: np.ndarray) -> np.ndarray:
        """Where labels are, told without the classes of an earlier fit."""
        if y.dtype.kind in "US":
            return np.ones(len(y), bool)
        if set(np.unique(y).tolist()) == {-1, 1}:
            warn(
                "y has -1 and 1 only, which are taken as two classes; if -1 marks images without a "
                "label, there is one class, and nothing to tell apart",
                UserWarning,
            )
            return np.ones(len(y), bool)
        return np.asarray(y != -1)

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        return self._fitted_head.classes_

    @if_head_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        return self._of_read("predict_proba", X)

    @if_head_has("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
        """
        return self._of_read("decision_function", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on those images that have a label and can be read.

        Parameters
        ----------
        X : array-like
            Images.
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        X, y, sample_weight = self._labeled_only(X, y, sample_weight)
        return score_of_read(accuracy_score, y, self.predict(X), sample_weight)


class SelfSupervisedRegressor(RegressorMixin, SelfSupervised):
    """A regressor for many images of which few have a target; NaN marks those without.

    Parameters
    ----------
    learner : PretextLearner
        Or any transformer of images.
    regressor : regressor or None, default=None
        ``None`` takes a ridge regression, with the penalty that cross-validation finds, on
        features that are standardized and held to the range that images with targets span.

    Attributes
    ----------
    learner_, regressor_ : estimators
        The fitted ones.
    n_labeled_ : int
        Number of images that the regressor was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SelfSupervisedRegressor, SimCLR
    >>> digits = load_digits()
    >>> ink = digits.images.sum((1, 2))
    >>> y = np.where(np.arange(1797) < 200, ink, np.nan)
    >>> regressor = SelfSupervisedRegressor(SimCLR(max_epochs=1, random_state=0))
    >>> regressor = regressor.fit(digits.images, y)
    >>> bool(regressor.score(digits.images[200:], ink[200:]) > 0.3)
    True
    """

    regressor: Any = argument(default=None, kw_only=False)

    _head: ClassVar[str] = "regressor"

    @staticmethod
    def _usual_head() -> Any:
        return make_pipeline(*_scaling(), RidgeCV(np.logspace(-1, 5, 7)))

    @staticmethod
    def _check_y(y: Any) -> np.ndarray:
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True, dtype=np.float64)
        if np.isinf(y).any():
            raise ValueError("Input y contains infinity; NaN marks images without a target")
        return y

    def _is_labeled(self, y: np.ndarray) -> np.ndarray:
        return ~np.isnan(y)

    _labeled_in_fit = _is_labeled

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination on those images that have a target and can be read.

        Parameters
        ----------
        X : array-like
            Images.
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        X, y, sample_weight = self._labeled_only(X, y, sample_weight)
        return score_of_read(r2_score, y, self.predict(X), sample_weight)


def _scaling() -> tuple[MinMaxScaler, StandardScaler]:
    """Steps that standardize features, and clip those of other images to their range."""
    return MinMaxScaler(clip=True), StandardScaler()
