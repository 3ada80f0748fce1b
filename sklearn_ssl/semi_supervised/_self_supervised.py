"""Classifiers and regressors on the features of a learner that is pretrained on all images."""

import time
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from torch import Tensor, nn

from sklearn_ssl._labeled._mixins import (
    LabeledClassifierMixin,
    LabeledRegressorMixin,
    encoded,
    of_read,
    read_rows,
    rows_for_scales,
    rows_of,
)
from sklearn_ssl._labeled._to_torch import ExportMixin, as_module
from sklearn_ssl._utils._estimators import (
    POSITIVE,
    DeclaredArguments,
    StrOptions,
    all_or_nothing,
    argument,
    plain,
)
from sklearn_ssl._utils._messages import (
    inner_training,
    lost_if_interrupted,
    warn,
    warn_of_interruption,
)
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl.auto import AutoFeatures
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.exceptions import InterruptionWarning, LittleTrainingWarning, TrainingInterrupted
from sklearn_ssl.fine_tuning import FineTunedClassifier, quick_classifier
from sklearn_ssl.images import count_images, opened, pick
from sklearn_ssl.probes import KernelProbe, KernelRegressor, LinearProbe

_SECONDS = 300.0  # of learner=None without a time_budget
_MOST_FOR_KERNEL = 10_000  # labels; a kernel of more takes long and much memory
_SHARE_OF_HEAD = 0.6  # of the time, at most
_LEAST_WIDTH = 2000  # of features, however long the head takes
_SHARE_OF_NETWORK = 0.4  # of the time, to train a network on labels
_LEAST_SHARE_LEFT = 0.25  # of the network's time, without which it is not trained
_MOST_TO_TRY = 4000  # labels; with more, a trial costs more than it can gain
_LEAST_TO_TRY = 20  # labels
_LEAST_SECONDS = 60.0  # of a network and its trial; with less, predictions become worse
_SHARE_OF_TRIAL = 0.3  # of the network's time, with few labels
_FOLDS = 3  # of few labels
_ENOUGH_TO_HOLD_OUT = 1000  # labels, some of which the network can do without
_WEIGHTS = (0.25, 0.5, 2 / 3, 0.8, 1.0)  # of a network, beside the head
_CLEARLY = 2.0  # standard errors by which a network must lower the loss
_WEIGHT_UNTRIED = 2 / 3
_LEAST_SHARE = 1e-9  # probability, so that logs are finite


class SelfSupervised(MetaEstimatorMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Base of estimators with a learner fitted to all images and a head fitted to labeled ones."""

    learner: Any = argument(default=None, kw_only=False)
    head: Any = argument(default=None, kw_only=False)
    time_budget: float | None = argument(POSITIVE, None, default=None)
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    _read_y: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]
    _kernel: ClassVar[type]

    @all_or_nothing
    def fit(self, X: Any, y: Any, *, X_unlabeled: Any = None) -> Self:
        """Pretrain on all images, and fit the head to the features of labeled ones.

        Parameters
        ----------
        X : array-like
            Images, as for the learner.
        y : array-like of shape (n,), or (n, k) for several labels or targets
            Label or target of each image, or a mark that it is missing. With several, an image
            counts as labeled if it has all of them.
        X_unlabeled : array-like, optional
            More images, without labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the images or the labels are not usable.
        TrainingInterrupted
            After Ctrl-C; it is a KeyboardInterrupt. The head is fitted to the features that the
            learner has learned so far.
        """
        self._validate_params()
        if self.learner is not None and self.time_budget is not None:
            raise ValueError(
                f"time_budget={self.time_budget:g} is for learner=None, which finds features by "
                "itself; set time_budget of the learner"
            )
        if self.learner is not None and plain(getattr(self, "fine_tune", "auto")) is True:
            raise ValueError(
                "fine_tune=True is for learner=None; give FineTunedClassifier the learner instead"
            )
        if self.learner is not None and not hasattr(self.learner, "transform"):
            raise TypeError(
                f"learner={self.learner!r} has no transform; give a learner, such as SimCLR()"
            )
        X = opened(X)
        labels, is_labeled = self._read_y(y, count_images(X))
        self._make_head(labels)  # rejects bad labels before anything is trained
        if self.learner is None:
            return self._fit_features(X, y, labels, is_labeled, X_unlabeled)
        learner = clone(self.learner)
        more = {} if X_unlabeled is None else {"X_unlabeled": X_unlabeled}
        if not isinstance(learner, PretextLearner):  # others may be left half fitted
            with lost_if_interrupted(self, learner):
                learner.fit(X, None, **more)  # FrozenEstimator requires y
            return self._keep(learner, X, labels, is_labeled, X_unlabeled)
        try:
            with inner_training():
                learner.fit(X, **more)
        except TrainingInterrupted:
            self._keep(learner, X, labels, is_labeled, X_unlabeled)
            warn_of_interruption(learner, kept_by=self)
            raise
        return self._keep(learner, X, labels, is_labeled, X_unlabeled)

    def _fit_features(
        self, X: Any, y: Any, labels: np.ndarray, is_labeled: np.ndarray, X_unlabeled: Any
    ) -> Self:
        """Fit AutoFeatures, and a head to the features of labeled images, within the time."""
        began = time.monotonic()
        learner = AutoFeatures(self.time_budget or _SECONDS, random_state=self.random_state)
        budget, head = learner.time_budget, self._make_head(labels)
        of_network = self._share_of_network(labels) * budget

        def needs_of_head(speeds: Any, n: int) -> tuple[float, float, int | None]:
            """Choose the head by the time, if it is free.

            Return its seconds, with those of training a network on the labels, its seconds for a
            feature, and the largest number of features.
            """
            nonlocal head
            limit, take = _SHARE_OF_HEAD * (budget - of_network), speeds.of_linear
            few = n <= _MOST_FOR_KERNEL and speeds.of_kernel(n, _LEAST_WIDTH) <= limit
            if self.head is None and few:
                take = speeds.of_kernel
            elif self.head is None:
                head = self._usual_head(labels)
            fixed, a_feature = take(n, 0), take(n, 1) - take(n, 0)
            width = max(_LEAST_WIDTH, int((limit - fixed) / a_feature))
            return fixed + of_network, a_feature, width

        try:
            with inner_training():
                features = learner._fit(
                    X,
                    y,
                    X_unlabeled,
                    wanted="labeled",
                    are_numbers=isinstance(self, LabeledRegressorMixin),
                    head=needs_of_head,
                )
        except TrainingInterrupted:
            self._fit_head(learner, head, learner.transform(rows_of(X, is_labeled)), labels)
            warn_of_interruption(learner, kept_by=self)
            raise
        self._fit_head(learner, head, features, labels)
        if of_network:
            left = began + budget - time.monotonic()
            try:
                self._fit_network(rows_of(X, is_labeled), features, labels, left)
            except TrainingInterrupted:
                warn(
                    "the training of a network on the labels was interrupted; the features and "
                    "the head are complete",
                    InterruptionWarning,
                )
                raise
        return self

    def _share_of_network(self, labels: np.ndarray) -> float:
        """Return the share of the time to train a network on the labels; 0 for none."""
        return 0.0

    def _fit_network(
        self, X: Any, features: np.ndarray, labels: np.ndarray, seconds: float
    ) -> None:
        """Train a network on labeled images, if it helps, within so many seconds."""

    def _fit_head(self, learner: Any, head: Any, features: Any, labels: Any, **more: Any) -> Self:
        """Fit the head to the features of labeled images that were read; store both."""
        read = read_rows(features)
        if not read.all():
            features, labels = _safe_indexing(features, np.flatnonzero(read)), labels[read]
        head.fit(features, labels, **more)
        for name in ("network_", "network_weight_"):
            self.__dict__.pop(name, None)
        self.learner_, self.head_, self.n_labeled_ = learner, head, len(labels)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(learner, name):
                setattr(self, name, getattr(learner, name))
            else:
                self.__dict__.pop(name, None)
        return self

    def _keep(
        self, learner: Any, X: Any, labels: np.ndarray, is_labeled: np.ndarray, X_unlabeled: Any
    ) -> Self:
        """Fit the head, and store it and the learner."""
        features = learner.transform(rows_of(X, is_labeled))
        head, more = self._make_head(labels[read_rows(features)]), {}
        if has_fit_parameter(head, "X_unlabeled"):
            others = pick(X, rows_for_scales(np.flatnonzero(~is_labeled)))
            if is_labeled.all() and X_unlabeled is not None:
                others = opened(X_unlabeled)
                others = pick(others, rows_for_scales(np.arange(count_images(others))))
            if count_images(others):
                unlabeled = learner.transform(others)
                more["X_unlabeled"] = unlabeled[read_rows(unlabeled)]
        return self._fit_head(learner, head, features, labels, **more)

    def _make_head(self, labels: np.ndarray | None = None) -> Any:
        given = self.head
        if given is None:
            head = self._usual_head(labels)  # rejects bad labels
            return self._kernel() if self.learner is None else head
        usable = hasattr(given, "fit") and hasattr(given, "predict") and not isinstance(given, type)
        if labels is not None and not usable:
            kind = "classifier" if isinstance(self, LabeledClassifierMixin) else "regressor"
            raise TypeError(f"head={given!r} must be a {kind} or None")
        return clone(given)

    @property
    def _fitted_head(self) -> Any:
        check_is_fitted(self)
        return self.head_

    def _of_read(self, method: str, X: Any) -> np.ndarray:
        """Apply a method of the head to images; unreadable ones get NaN or None."""
        return of_read(getattr(self._fitted_head, method), self.learner_.transform(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels or targets of images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            If the learner has ``on_error="skip"``, NaN (None for classes) for files that cannot be
            read.
        """
        return self._of_read("predict", X)

    def to_torch(self) -> nn.Module:
        """Return the learner and the head as one plain torch module.

        Returns
        -------
        nn.Module
            Maps pixels (n, channels, height, width), in the range of the fit and of any type, to
            targets or to class scores (n, n_classes), float32. The scores are probabilities if the
            classifier is a logistic regression, or from this package.

        Raises
        ------
        TypeError
            If a step cannot be converted to a torch module.
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
        tags.non_deterministic = self.learner is None
        if hasattr(self.learner, "__sklearn_tags__"):
            tags.input_tags = self.learner.__sklearn_tags__().input_tags
        head = self.head
        if head is None:
            tags.target_tags.multi_output = True
        elif hasattr(head, "__sklearn_tags__") and not isinstance(head, type):
            tags.target_tags.multi_output = head.__sklearn_tags__().target_tags.multi_output
        return tags


def if_head_has(method: str) -> Any:
    """Make a method available if the head has it."""

    def check(self: Any) -> bool:
        given = getattr(self, "head_", None) or self._make_head()
        getattr(given, method)  # an AttributeError names the head that lacks it
        return True

    return available_if(check)


class SelfSupervisedClassifier(LabeledClassifierMixin, SelfSupervised):
    """Classifier for many images with few labels.

    The learner is pretrained on all images, and the classifier is fitted to the features of those
    with a label. In ``y``, None, NaN, NA or, as in :mod:`sklearn.semi_supervised`, -1 marks images
    without a label, in numbers and in text; if 1 is the only other label, -1 and 1 are two classes.

    For several labels per image, ``y`` has a column of 1 and 0 for each class; images with a
    missing value count as unlabeled.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Learner, or any other transformer of images. ``None`` means :class:`AutoFeatures`.
    head : classifier or None, default=None
        Classifier of features. ``None`` means :class:`LinearProbe`, a logistic regression that
        chooses its regularization and scaling for the given labels; at most 2,000 unlabeled images
        are transformed to learn scales from them, too. With several labels per image, it is one
        for each class. With ``learner=None``, it is :class:`KernelProbe` if there is time, and
        at most 10,000 labels.
    time_budget : float or None, default=None
        Seconds that the whole fit may take, with ``learner=None``; by default 300.
    random_state : int, RandomState instance or None, default=None
        Seed, with ``learner=None``.
    fine_tune : bool or "auto", default="auto"
        With ``learner=None``, whether to train a network on the labels, too, from where its
        pretraining ended, if there was time for any. Its probabilities and those of the head are
        averaged; with up to 4,000 labels, the weight is that with the best predictions of held-out
        images, and the network is left out if that is 0. ``"auto"`` does so with at least 20
        labels, one per image and two per class, at least 150 seconds, and no other ``head``. With
        more than 4,000 labels, the weight of the network is 2/3.

    Attributes
    ----------
    learner_, head_ : estimators
        Fitted learner and classifier.
    network_ : FineTunedClassifier
        Network trained on the labels, if there is one.
    network_weight_ : float
        Its share in the average of probabilities.
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

    fine_tune: bool | str = argument("boolean", StrOptions({"auto"}), default="auto")

    _multilabel: ClassVar[bool] = True

    _kernel = KernelProbe

    @staticmethod
    def _usual_head(labels: np.ndarray | None) -> Any:
        if labels is None or labels.ndim == 2:
            return OneVsRestClassifier(LinearProbe())
        encoded(labels)
        return LinearProbe()

    @property
    def classes_(self) -> np.ndarray:
        """Classes of the classifier."""
        return self._fitted_head.classes_

    @if_head_has("predict_proba")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        shares = self._of_read("predict_proba", X)
        if self._network is None:
            return shares
        weight = self.network_weight_
        return (1 - weight) * shares + weight * self._network.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,), or (n, n_labels)
            If the learner has ``on_error="skip"``, None for files that cannot be read.
        """
        if self._network is None:
            return super().predict(X)
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    @if_head_has("decision_function")
    def decision_function(self, X: Any) -> np.ndarray:
        """Compute class scores.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes
        """
        if self._network is None:
            return self._of_read("decision_function", X)
        logs = np.log(np.maximum(self.predict_proba(X), _LEAST_SHARE))
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs

    def to_torch(self) -> nn.Module:
        """Return the classifier as one plain torch module.

        Returns
        -------
        nn.Module
            Maps pixels (n, channels, height, width), in the range of the fit and of any type, to
            class scores (n, n_classes), float32. The scores are probabilities if the head is a
            logistic regression, or from this package.

        Raises
        ------
        TypeError
            If a step cannot be converted to a torch module.
        """
        module = super().to_torch()
        return (
            module
            if self._network is None
            else _WithNetwork(module, self._network.to_torch(), self.network_weight_).eval()
        )

    @property
    def _network(self) -> FineTunedClassifier | None:
        return getattr(self, "network_", None)

    def _share_of_network(self, labels: np.ndarray) -> float:
        if plain(self.fine_tune) is True and labels.ndim == 2:
            raise ValueError("fine_tune=True needs one label per image, but y has several")
        if plain(self.fine_tune) is True and not hasattr(self._make_head(labels), "predict_proba"):
            raise ValueError(
                f"fine_tune=True averages probabilities, but head={self.head!r} has no "
                "predict_proba; give another head, or fine_tune=False"
            )
        seconds = _SHARE_OF_NETWORK * (self.time_budget or _SECONDS)
        enough = labels.ndim == 1 and len(labels) >= _LEAST_TO_TRY and self.head is None
        enough = enough and seconds >= _LEAST_SECONDS
        enough = enough and (len(labels) > _MOST_TO_TRY or _can_try(labels))
        wanted = enough if self.fine_tune == "auto" else self.fine_tune
        return _SHARE_OF_NETWORK if wanted else 0.0

    def _fit_network(
        self, X: Any, features: np.ndarray, labels: np.ndarray, seconds: float
    ) -> None:
        if seconds < _LEAST_SHARE_LEFT * _SHARE_OF_NETWORK * self.learner_.time_budget:
            warn(
                f"no network was trained on the labels, as {max(seconds, 0.0):.1f} of "
                f"{self.learner_.time_budget:g} s are left; is the machine busy?",
                LittleTrainingWarning,
            )
            return
        ends, weight = time.monotonic() + seconds, _WEIGHT_UNTRIED
        network: FineTunedClassifier | None = None
        if _can_try(labels):
            is_kept = len(labels) >= _ENOUGH_TO_HOLD_OUT
            share = 1.0 if is_kept else _SHARE_OF_TRIAL
            weight, tried = self._tried_weight(X, features, labels, share * seconds, is_kept)
            network = tried if is_kept else None
        if not weight:
            return
        if network is None:
            network = self._make_network(max(ends - time.monotonic(), 0.1))
            with inner_training():
                network.fit(X, labels)
        self.network_, self.network_weight_ = network, weight

    def _tried_weight(
        self, X: Any, features: np.ndarray, labels: np.ndarray, seconds: float, is_kept: bool
    ) -> tuple[float, FineTunedClassifier]:
        """Return the weight that is best for held-out images, or 0, and the network.

        A network that ``is_kept`` is trained once, on most images, for all of the time. Others are
        trained on folds of the images, as few must not be wasted.
        """
        ends = time.monotonic() + seconds
        of_class = np.searchsorted(self.classes_, labels)
        n_folds = max(5, len(labels) // 500) if is_kept else _FOLDS
        n_folds = min(n_folds, np.bincount(of_class).max())  # 2 at least, see _can_try
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # on rare classes
            splits = list(folds.split(features, labels))[: 1 if is_kept else None]
        own, others = [], []  # probabilities of the true class, by the head and by the network
        for train, test in splits:
            head = clone(self.head_).fit(features[train], labels[train])
            own.append(head.predict_proba(features[test])[np.arange(len(test)), of_class[test]])
        for left, (train, test) in zip(range(len(splits), 0, -1), splits, strict=True):
            network = self._make_network(max(ends - time.monotonic(), 0.1) / left)
            with inner_training():
                network.fit(pick(X, train), labels[train])
            found = network.predict_proba(pick(X, test))
            others.append(found[np.arange(len(test)), of_class[test]])

        def gains(weight: float) -> np.ndarray:
            """Return by how much the network lowers the log loss of each image."""
            before = np.maximum(np.concatenate(own), _LEAST_SHARE)
            mixed = (1 - weight) * before + weight * np.concatenate(others)
            return np.log(np.maximum(mixed, _LEAST_SHARE) / before)

        best = max(_WEIGHTS, key=lambda weight: gains(weight).mean())
        error = gains(best).std() / np.sqrt(len(gains(best)))
        is_better = plain(self.fine_tune) is True or gains(best).mean() > _CLEARLY * error
        return (best if is_better else 0.0), network

    def _make_network(self, seconds: float) -> FineTunedClassifier:
        parts = self.learner_.plan_["parts"]
        mirror = any(part.mirror for part in parts.values())  # pixels are never mirrored
        start = self.learner_.parts_.get("learner")
        return quick_classifier(
            None if start is None else FrozenEstimator(start),
            flip=mirror / 2,
            image_shape=next(iter(self.learner_.parts_.values())).image_shape_,
            time_budget=seconds,
            mirror=mirror,
            random_state=self.random_state,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output
        return tags


def _can_try(labels: np.ndarray) -> bool:
    """Return whether a network can be tried on some of the labels, in reasonable time."""
    if labels.ndim > 1 or len(labels) > _MOST_TO_TRY:
        return False
    return bool(np.unique(labels, return_counts=True)[1].min() > 1)


class _WithNetwork(nn.Module):
    """Module that averages the probabilities of features and head, and of a network."""

    def __init__(self, head: nn.Module, network: nn.Module, weight: float):
        super().__init__()
        self.head = head
        self.network = network
        self.weight = weight

    def forward(self, pixels: Tensor) -> Tensor:
        return (1 - self.weight) * self.head(pixels) + self.weight * self.network(pixels)


class SelfSupervisedRegressor(LabeledRegressorMixin, SelfSupervised):
    """Regressor for many images with few targets.

    In ``y``, None or NaN marks images without a target. With several targets, ``y`` of shape
    (n, k), the regressor is fitted to images that have all of them.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Learner, or any other transformer of images. ``None`` means :class:`AutoFeatures`.
    head : regressor or None, default=None
        Regressor of features. ``None`` means ridge regression, with a penalty chosen by
        cross-validation, on features that are clipped to their range in images with targets, and
        standardized. With ``learner=None``, it is :class:`KernelRegressor` if there is time, and
        at most 10,000 targets.
    time_budget : float or None, default=None
        Seconds that the whole fit may take, with ``learner=None``; by default 300.
    random_state : int, RandomState instance or None, default=None
        Seed, with ``learner=None``.

    Attributes
    ----------
    learner_, head_ : estimators
        Fitted learner and regressor.
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

    _kernel = KernelRegressor

    @staticmethod
    def _usual_head(labels: np.ndarray | None) -> Any:
        scaling = MinMaxScaler(clip=True), StandardScaler()
        return make_pipeline(*scaling, RidgeCV(np.logspace(-1, 5, 7)))

    def _fit_head(self, learner: Any, head: Any, features: Any, labels: Any, **more: Any) -> Self:
        if isinstance(head, Pipeline) and self.head is None:
            # coefficients in double precision: sums in float32 depend on the number of images
            features = np.asarray(features, dtype=np.float64)
        return super()._fit_head(learner, head, features, labels, **more)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the targets of images.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,) or (n, k), float64
            If the learner has ``on_error="skip"``, NaN for files that cannot be read.
        """
        return np.asarray(super().predict(X), dtype=np.float64)
