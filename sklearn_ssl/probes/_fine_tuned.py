"""Encoders that are trained on with labels, end to end."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import column_or_1d
from torch import nn

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl.probes._classes import encoded
from sklearn_ssl.probes._fine_tuning import FineTuned
from sklearn_ssl.probes._modules import Linear
from sklearn_ssl.probes._supervised import ClassificationLoss, squared_error
from sklearn_ssl.probes._unread import of_read, score_of_read

__all__ = ["FineTunedClassifier", "FineTunedRegressor"]


class FineTunedClassifier(ClassifierMixin, FineTuned):
    """An encoder with a linear classifier on it, both trained on labeled images.

    Parameters
    ----------
    learner : PretextLearner, str, class or callable, default="small_resnet"
        What to start from: a fitted learner, one that is fitted to the images first, or a network
        as the ``encoder`` of a learner. scikit-learn's cross-validation clones learners, and a
        clone is not fitted: give ``FrozenEstimator(learner)`` there.
    class_weight : dict, {"balanced"} or None, default=None
        Weights of classes, as in scikit-learn.
    label_smoothing : float, default=0.0
        Share of the target that is spread over all classes.
    early_stopping : bool, default=False
        Whether to hold some images out, end when their accuracy does not rise, and keep what was
        best.
    validation_fraction : float, default=0.1
        Share of the images that are held out for it.
    patience : int, default=5
        Epochs without a better accuracy before it ends.
    checkpoint : str, path, Checkpoint or None, default=None
        Folder in which the training is saved, as of a learner: the same fit resumes from there,
        with the same bits. A learner that is not fitted is pretrained anew, unless it has a
        ``checkpoint`` or ``memory`` of its own.
    <shared parameters>

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    learner_ : learner
        With the trained encoder; its ``transform`` gives features.
    history_ : list of dict
        For each epoch: loss, learning rate, and accuracy of images that were held out.
    skipped_ : dict of int to str
        With ``on_error="skip"``, rows of ``X`` that could not be trained on, and why.
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import FineTunedClassifier, SimCLR, Views
    >>> X, y = load_digits().images, load_digits().target
    >>> ssl = SimCLR(max_epochs=1, random_state=0).fit(X)
    >>> still = Views(crop_scale=None, flip=0, jitter=None)
    >>> tuned = FineTunedClassifier(ssl, max_epochs=5, views=still, random_state=0)
    >>> bool(tuned.fit(X[:500], y[:500]).score(X[500:], y[500:]) > 0.6)
    True
    """

    class_weight: Any = argument(dict, StrOptions({"balanced"}), None, default=None)
    label_smoothing: float = argument(Interval(Real, 0, 1, closed="left"), default=0.0)

    def _learn_targets(self, y: Any) -> tuple:
        y = column_or_1d(y, warn=True)
        classes, codes = encoded(y)
        weights = None
        if self.class_weight is not None:
            weights = compute_class_weight(self.class_weight, classes=classes, y=y).tolist()
        loss = ClassificationLoss(weights, float(self.label_smoothing))
        return codes, {"classes_": classes}, len(classes), loss

    def _quality(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        return float((outputs.argmax(1) == targets).mean())

    def _strata(self, targets: np.ndarray) -> Any:
        return targets

    def _finish(self) -> nn.Module:
        return nn.Softmax(1)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes, float32
        """
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,)
            With ``on_error="skip"``, None for files that cannot be read.
        """
        return of_read(lambda outputs: self.classes_[outputs.argmax(1)], self._outputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on those images that can be read.

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
        return score_of_read(accuracy_score, y, self.predict(X), sample_weight)


class FineTunedRegressor(RegressorMixin, FineTuned):
    """An encoder with a linear regression on it, both trained on images with targets.

    Targets are standardized; the loss is the squared error.

    Parameters
    ----------
    learner : PretextLearner, str, class or callable, default="small_resnet"
        As of :class:`FineTunedClassifier`.
    early_stopping : bool, default=False
        Whether to hold some images out, end when their R2 does not rise, and keep what was best.
    validation_fraction : float, default=0.1
        Share of the images that are held out for it.
    patience : int, default=5
        Epochs without a better R2 before it ends.
    checkpoint : str, path, Checkpoint or None, default=None
        Folder in which the training is saved, as of a learner: the same fit resumes from there,
        with the same bits. A learner that is not fitted is pretrained anew, unless it has a
        ``checkpoint`` or ``memory`` of its own.
    <shared parameters>

    Attributes
    ----------
    learner_ : learner
        With the trained encoder; its ``transform`` gives features.
    history_ : list of dict
        For each epoch: loss, learning rate, and R2 of images that were held out.
    skipped_ : dict of int to str
        With ``on_error="skip"``, rows of ``X`` that could not be trained on, and why.
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import FineTunedRegressor, Views
    >>> X = load_digits().images
    >>> ink = X.sum((1, 2))
    >>> still = Views(crop_scale=None, flip=0, jitter=None)
    >>> tuned = FineTunedRegressor(max_epochs=5, batch_size=16, views=still, random_state=0)
    >>> bool(tuned.fit(X[:500], ink[:500]).score(X[500:], ink[500:]) > 0.4)
    True
    """

    def _learn_targets(self, y: Any) -> tuple:
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity")
        mean, scale = y.mean(0), y.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        targets = ((y - mean) / scale).astype(np.float32)
        learned = {"_mean": mean, "_scale": scale, "_shape": y.shape[1:]}
        return targets.reshape(len(y), -1), learned, int(np.prod(y.shape[1:])), squared_error

    def _quality(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        return 1 - float(((outputs - targets) ** 2).mean() / max(targets.var(), 1e-12))

    def _finish(self) -> nn.Module:
        flat = self._shape == ()
        rescaled = Linear(np.diag(np.atleast_1d(self._scale)), self._mean, "values")
        return nn.Sequential(rescaled, nn.Flatten(0)) if flat else rescaled

    def _strata(self, targets: np.ndarray) -> None:
        return None

    def predict(self, X: Any) -> np.ndarray:
        """What is predicted for images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, n_targets)
            With ``on_error="skip"``, NaN for files that cannot be read.
        """
        outputs = self._outputs(X).astype(np.float64)
        return outputs.reshape(len(outputs), *self._shape) * self._scale + self._mean

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Coefficient of determination on those images that can be read.

        Parameters
        ----------
        X : array-like
            Images.
        y : array-like of shape (n,) or (n, n_targets)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
        """
        return score_of_read(r2_score, y, self.predict(X), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
