"""Encoders that are trained on with labels, end to end."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl.probes._fine_tuning import FineTuned
from sklearn_ssl.probes._labeled import LabeledClassifierMixin, LabeledRegressorMixin, encoded
from sklearn_ssl.probes._modules import Linear
from sklearn_ssl.probes._supervised import ClassificationLoss, IndicatorLoss, squared_error
from sklearn_ssl.probes._unread import of_read

__all__ = ["FineTunedClassifier", "FineTunedRegressor"]


class FineTunedClassifier(LabeledClassifierMixin, FineTuned):
    """An encoder with a linear classifier on it, both trained on labeled images.

    None, NaN, NA and -1 in ``y`` mark images without a label, which are left out; where 1 is the
    only other label, -1 and 1 are two classes. For several labels per image, ``y`` has a column for
    each class, with 1 and 0; images that have a value in all of them are used.

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
    n_labeled_ : int
        Number of images with a label.
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

    _multilabel: ClassVar[bool] = True

    def _learn_targets(self, y: Any) -> tuple:
        smoothing = float(self.label_smoothing)
        if y.ndim == 2:
            if self.class_weight is not None:
                raise ValueError(
                    "class_weight is for one label an image, and y has several columns"
                )
            learned = {"classes_": np.arange(y.shape[1]), "_has_several": True}
            return y.astype(np.float32), learned, y.shape[1], IndicatorLoss(smoothing)
        classes, codes = encoded(y)
        weights = None
        if self.class_weight is not None:
            weights = compute_class_weight(self.class_weight, classes=classes, y=y).tolist()
        loss = ClassificationLoss(weights, smoothing)
        return codes, {"classes_": classes, "_has_several": False}, len(classes), loss

    def _quality(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        if targets.ndim == 2:
            return float(((outputs > 0) == (targets > 0)).all(1).mean())
        return float((outputs.argmax(1) == targets).mean())

    def _strata(self, targets: np.ndarray) -> Any:
        return None if targets.ndim == 2 else targets

    def _finish(self) -> nn.Module:
        return nn.Sigmoid() if self._has_several else nn.Softmax(1)

    def _class_names(self) -> list | None:
        return None if self._has_several else super()._class_names()

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the scores of classes.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes, float32
        """
        outputs = self._outputs(X)
        if len(self.classes_) == 2 and not self._has_several:
            return outputs[:, 1] - outputs[:, 0]
        return outputs

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
        outputs = torch.from_numpy(self._outputs(X)).double()  # in which few are 1
        return (outputs.sigmoid() if self._has_several else outputs.softmax(1)).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each image, or 1 for each class that is probable.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            With ``on_error="skip"``, None for files that cannot be read.
        """
        return of_read(self._classes_of, self._outputs(X))

    def _classes_of(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs > 0).astype(int) if self._has_several else self.classes_[outputs.argmax(1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


class FineTunedRegressor(LabeledRegressorMixin, FineTuned):
    """An encoder with a linear regression on it, both trained on images with targets.

    None, NaN and NA in ``y`` mark images without one, which are left out; of several targets, ``y``
    of shape (n, k), images are taken that have all of them. Targets are standardized;
    the loss is the squared error.

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
    n_labeled_ : int
        Number of images with a target.
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
        """Predict the targets of images.

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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
