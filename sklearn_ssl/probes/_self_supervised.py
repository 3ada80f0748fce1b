"""Classifiers and regressors for many images of which few have labels."""

from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl.probes._labeled import LabeledClassifierMixin, LabeledRegressorMixin, encoded
from sklearn_ssl.probes._linear import LinearProbe
from sklearn_ssl.probes._semi_supervised import SelfSupervised, if_head_has

__all__ = ["SelfSupervisedClassifier", "SelfSupervisedRegressor"]


class SelfSupervisedClassifier(LabeledClassifierMixin, SelfSupervised):
    """A classifier for many images of which few have labels.

    The learner is pretrained on all of them, and the classifier is fitted to the features of those
    with a label. None, NaN, NA or, as in :mod:`sklearn.semi_supervised`, -1 in ``y`` marks images
    without one, in numbers and in text; where 1 is the only other label, -1 and 1 are two classes.

    For several labels per image, ``y`` has a column for each class, with 1 and 0; images that have
    a value in all of them are used.

    Parameters
    ----------
    learner : PretextLearner
        Or any transformer of images.
    classifier : classifier or None, default=None
        ``None`` takes :class:`LinearProbe`, a logistic regression that chooses its regularization
        and scaling for the labels that there are. Scales are learned from images without labels,
        too, of which 2,000 at most are transformed for that. For several labels an image it is one
        for each class.

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

    _multilabel: ClassVar[bool] = True

    @staticmethod
    def _usual_head(labels: np.ndarray | None) -> Any:
        if labels is None or labels.ndim == 2:
            return OneVsRestClassifier(LinearProbe())
        encoded(labels)
        return LinearProbe()

    @property
    def classes_(self) -> np.ndarray:
        """The classes."""
        return self._fitted_head.classes_

    @if_head_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of classes.

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
        """Compute the scores of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
        """
        return self._of_read("decision_function", X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output
        return tags


class SelfSupervisedRegressor(LabeledRegressorMixin, SelfSupervised):
    """A regressor for many images of which few have a target; None or NaN marks those without.

    Of several targets, ``y`` of shape (n, k), images are taken that have all of them.

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
    def _usual_head(labels: np.ndarray | None) -> Any:
        scaling = MinMaxScaler(clip=True), StandardScaler()
        return make_pipeline(*scaling, RidgeCV(np.logspace(-1, 5, 7)))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the targets of images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, k), float64
            With ``on_error="skip"`` in the learner, NaN for files that cannot be read.
        """
        return np.asarray(super().predict(X), dtype=np.float64)
