"""Classifiers and regressors that fine-tune an encoder end to end."""

import copy
import functools
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._labeled._mixins import (
    LabeledClassifierMixin,
    LabeledRegressorMixin,
    encoded,
    of_read,
    read_rows,
    rows_of,
)
from sklearn_ssl._labeled._to_torch import ExportMixin, Linear
from sklearn_ssl._utils._estimators import (
    COUNT,
    COUNT_OR_ZERO,
    DeclaredArguments,
    Interval,
    StrOptions,
    all_or_nothing,
    argument,
    fill_docstring,
    plain,
)
from sklearn_ssl._utils._messages import (
    in_cross_validation,
    inner_training,
    lost_if_interrupted,
    warn,
    warn_of_interruption,
)
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import draw_seed, own_settings
from sklearn_ssl.base import PretextLearner, apply
from sklearn_ssl.encoders import FeatureSpec
from sklearn_ssl.exceptions import CrossValidationWarning, LabelWarning, TrainingInterrupted
from sklearn_ssl.fine_tuning._supervised import (
    ClassificationLoss,
    IndicatorLoss,
    Supervised,
    squared_error,
)
from sklearn_ssl.images import count_images, opened, pick
from sklearn_ssl.views import Views

_EPOCHS, _STEPS = 20, 600  # minimum of each by default


_NOT_SHARED = {"layer", "memory", "pool", "warm_start"}


class FineTuned(
    ExportMixin,
    SavedMixin,
    DeclaredArguments,
    BaseEstimator,
    like=PretextLearner,
    only=PretextLearner._arguments.keys() - _NOT_SHARED,
):
    """Base of estimators that start from a learner or an encoder, and train it on targets.

    Parameters
    ----------
    views : Views, callable or None
        Augmentation of the images; ``None`` means random crops and flips. Here, views without a
        ``size`` are as large as the images. Predictions use images resized to the size of the
        views. A callable maps a batch of images, a float tensor (n, c, h, w) in [0, 1], to a batch
        of views.
    max_epochs : int or None
        Number of passes over the images. ``None`` means 20, or more with few images: enough for 600
        steps.
    early_stopping : bool
        Hold out some images, stop when their accuracy or R2 no longer rises, and keep the best
        weights.
    validation_fraction : float
        Share of the images that ``early_stopping`` holds out.
    patience : int
        Number of epochs without a better accuracy or R2 after which ``early_stopping`` stops.
    """

    learner: Any = argument(default=None, kw_only=False, group="fine-tuning")
    views: Views | Callable[..., Any] | None = argument(Views, callable, None, default=None)
    max_epochs: int | None = argument(COUNT_OR_ZERO, None, default=None, changeable=True)
    early_stopping: bool = argument("boolean", default=False)
    validation_fraction: float = argument(Interval(Real, 0, 1, closed="neither"), default=0.1)
    patience: int = argument(COUNT, default=5)

    _usual_batch_size: ClassVar[int] = 64

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fill_docstring(cls)

    get_params, set_params = PretextLearner.get_params, PretextLearner.set_params
    _set_of_callback = PretextLearner._set_of_callback
    _choose_batch_size = PretextLearner._choose_batch_size

    def _default_views(self) -> Views:
        return Views(crop_scale=(0.3, 1.0), jitter=None, gray=0, blur=0)

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Train the encoder and a linear head on labeled images.

        Parameters
        ----------
        X : array-like, or images in files
            Images, as for a learner.
        y : array-like of shape (n,)
            Labels or targets. Images without one are left out; only the pretraining of a learner
            that is not fitted uses them, too.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the arguments, the images or the labels are not usable.
        DivergenceError
            If the loss becomes NaN or infinite.
        TrainingInterrupted
            After Ctrl-C; it is a KeyboardInterrupt. The estimator has what it learned so far, but
            nothing of an unfinished pretraining of its learner.
        """
        self._validate_params()
        X = opened(X)
        labels, is_labeled = self._read_y(y, count_images(X))
        targets, learned, n_outputs, loss = self._learn_targets(labels)
        source = self._fitted_source(X)
        X, callbacks = rows_of(X, is_labeled), list(self.callbacks or ())
        rows, n_labeled = np.flatnonzero(is_labeled), len(labels)
        if self.early_stopping:
            kept, stopping = self._hold_out(X, targets)
            X, targets, rows = pick(X, kept), targets[kept], rows[kept]
            callbacks += stopping
        trained = self._supervised(source, torch.as_tensor(targets), n_outputs, loss)
        trained.set_params(callbacks=callbacks)
        try:
            with inner_training():
                trained.fit(X)
        except TrainingInterrupted:
            self._keep(trained, learned, n_labeled, rows)
            warn_of_interruption(trained, kept_by=self)
            raise
        self._keep(trained, learned, n_labeled, rows)
        return self

    def _keep(
        self, trained: Supervised, learned: dict[str, Any], n_labeled: int, rows: np.ndarray
    ) -> None:
        """Store what was learned from these rows of X."""
        self._let_go(trained)
        self.__dict__.update(learned, learner_=trained, history_=trained.history_)
        self.n_labeled_ = n_labeled
        self.skipped_ = {int(rows[row]): reason for row, reason in trained.skipped_.items()}
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(trained, name):
                setattr(self, name, getattr(trained, name))

    def _supervised(self, source: Any, targets: Any, n_outputs: int, loss: Any) -> Supervised:
        """Make the learner to train on the targets."""
        shared = Supervised._arguments.keys() & self.get_params(deep=False).keys()
        params = {name: getattr(self, name) for name in shared - {"callbacks", "encoder"}}
        if params["views"] is None:
            params["views"] = self._default_views()
        if self.max_epochs is None:  # more for few images, because steps count
            batch_size = self._choose_batch_size(len(targets), cut=True)
            n_steps = max(1, len(targets) // batch_size)
            params["max_epochs"] = max(_EPOCHS, math.ceil(_STEPS / n_steps))
        if params["image_shape"] is None:  # the source of a loaded estimator is not fitted
            params["image_shape"] = getattr(source, "image_shape_", None)
        encoder = self.encoder if source is None else "small_resnet"
        of_task = {"source": source, "n_outputs": n_outputs, "targets": targets, "loss": loss}
        return Supervised(encoder=encoder, **of_task, **params)

    @staticmethod
    def _let_go(trained: Supervised) -> None:
        """Drop the inputs of the training: labels, held-out images, and the source."""
        trained.set_params(source=None, targets=None, loss=None, callbacks=None)
        trained._constructed_with_ = trained._construction_arguments()
        net, task = trained.net_, trained.net_.module_.task
        net.callbacks, net.callbacks_ = None, []
        task.targets, task.loss = task.targets[:0].clone(), None

    def _fitted_source(self, X: Any) -> Any:
        """Return the learner to start from, fitted if it was not, or None for an encoder."""
        given = self._given_learner()
        if given is None:
            return None
        if not given._shares_encoder:
            raise ValueError(
                f"learner: {type(given).__name__} has an encoder of its own kind, which cannot be "
                "fine-tuned; give another learner"
            )
        if not given.__sklearn_is_fitted__():
            given = clone(given)
            if in_cross_validation() and given.memory is None:
                warn(
                    f"{type(given).__name__} is pretrained anew in this fold, as cross-validation "
                    "fits clones. To start from one that is fitted, give FrozenEstimator(learner); "
                    "to pretrain once per fold in a search, set memory= of the learner",
                    CrossValidationWarning,
                )
            with lost_if_interrupted(self, given):
                given.fit(X)
        return given

    def _given_learner(self) -> Any:
        """Return the learner to start from, or None."""
        given = self.learner
        if isinstance(given, FrozenEstimator):
            given = given.estimator
        if given is not None and not isinstance(given, PretextLearner):
            raise TypeError(
                f"learner={given!r} is not a pretext learner; give a network as encoder={given!r}"
            )
        if given is not None and self.encoder != type(self).encoder:
            raise ValueError(
                f"learner={type(given).__name__}(...) brings its own encoder, so "
                f"encoder={self.encoder!r} would be ignored; give one of them"
            )
        return given

    def _hold_out(self, X: Any, targets: np.ndarray) -> tuple[np.ndarray, list]:
        """Return the rows to train on, and callbacks for early stopping by the other rows."""
        from skorch.callbacks import EpochScoring

        from sklearn_ssl.training import StopEarly

        rows, held_out = self._split(targets)
        X_held_out, wanted = pick(X, held_out), targets[held_out]

        def measure(net: Any, *_: Any) -> float:
            images = net.read_(X_held_out)
            outputs = apply(net, self._predicted(net), images)
            read = read_rows(outputs, "images that early_stopping=True holds out")
            return self._quality(outputs[read], wanted[read])

        score = EpochScoring(
            measure, lower_is_better=False, name="valid_score", on_train=True, use_caching=False
        )
        return rows, [score, StopEarly("valid_score", int(plain(self.patience)))]

    def _split(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split rows into training and held-out ones, with all classes in both if possible."""
        n, seed = len(targets), draw_seed(self.random_state)
        n_held_out = int(np.ceil(plain(self.validation_fraction) * n))
        strata = targets if targets.dtype.kind == "i" else None  # indices of classes
        counts = np.bincount(np.zeros(n, int) if strata is None else strata)
        if counts.min() > 1 and max(len(counts), 2) <= n - n_held_out and len(counts) <= n_held_out:
            rows, held_out = train_test_split(
                np.arange(n), test_size=n_held_out, random_state=seed, stratify=strata
            )
            return np.sort(rows), np.sort(held_out)
        order = np.random.RandomState(seed).permutation(n)
        classes = np.zeros(n, int) if strata is None else strata[order]
        _, first = np.unique(classes, return_index=True)  # one of each class is trained on
        held_out = np.sort(np.delete(order, first)[:n_held_out])
        if not len(held_out) or n - len(held_out) < 2:
            of_classes = "" if strata is None else f" of {len(counts)} classes"
            raise ValueError(
                "early_stopping=True needs images to hold out and at least two to train on; "
                f"{n} images{of_classes} are too few. Give more images, or early_stopping=False"
            )
        if strata is not None:
            warn(
                f"early_stopping=True holds out only {len(held_out)} images, of "
                f"{len(np.unique(strata[held_out]))} of {len(counts)} classes; give more images, "
                "or a larger validation_fraction",
                LabelWarning,
            )
        return np.delete(np.arange(n), held_out), held_out

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        net = self.learner_.net_
        return apply(net, self._predicted(net), self.learner_._read_images(X))

    def _predicted(self, net: Any) -> Callable[[Tensor], Tensor]:
        return functools.partial(net.module_.task.predicted, mirror=self.mirror)

    # Torch modules

    def to_torch(self) -> nn.Module:
        """Return the network as a plain torch module.

        Returns
        -------
        nn.Module
            Maps pixels (n, channels, height, width), in the range of the fit and of any type, to
            class probabilities (n, n_classes), or to targets, float32.
        """
        check_is_fitted(self)
        learner, task = self.learner_, self.learner_.net_.module_.task
        pooled: FeatureSpec = [(learner.encoder_.last_layer, "avg")]
        with own_settings(torch.device("cpu")):
            head = copy.deepcopy(task.head).requires_grad_(False).cpu()
            # the head is linear: averaging features averages outputs
            extractor = learner._extractor(pooled, mirror=self.mirror, size=task.size)
            return nn.Sequential(extractor, head, self._finish()).eval()

    def _example(self) -> tuple[Tensor, str]:
        return self.learner_._example(), "pixels"

    # Files: the network is rebuilt, like that of a learner

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "learner": self.learner_._state()}

    def _learned_values(self) -> dict[str, Any]:
        learned = super()._learned_values()
        return {n: v for n, v in learned.items() if n not in ("learner_", "history_")}

    def _restore(self, values: dict[str, Any], rebuild: Callable[..., Any]) -> Self:
        super()._restore(values, rebuild)
        state = values["learner"]
        targets, bias = (state["module"][f"task.{name}"] for name in ("targets", "head.bias"))
        self.learner_ = self._supervised(self._given_learner(), targets, len(bias), None)
        self.learner_.set_params(image_shape=state["arguments"]["image_shape"])
        self.learner_._restore(state)
        self._let_go(self.learner_)
        self.history_ = self.learner_.history_
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "learner_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # Defined by subclasses for their kind of targets

    _read_y: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]
    _learn_targets: ClassVar[Callable[..., tuple]]
    _finish: ClassVar[Callable[..., nn.Module]]
    _quality: ClassVar[Callable[..., float]]


class FineTunedClassifier(LabeledClassifierMixin, FineTuned):
    """Encoder and linear classifier, both trained on labeled images.

    None, NaN, NA and -1 in ``y`` mark images without a label, which are left out; if 1 is the only
    other label, -1 and 1 are two classes. For several labels per image, ``y`` has a column of 1 and
    0 for each class; images with a missing value are left out.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Starting point: a fitted learner, or one that is not fitted, which is pretrained on the
        images first. ``None`` starts from ``encoder``. scikit-learn's cross-validation clones
        learners, and clones are not fitted: give ``FrozenEstimator(learner)`` there.
    class_weight : dict, {"balanced"} or None, default=None
        Class weights, as in scikit-learn.
    label_smoothing : float, default=0.0
        Share of the target that is spread over all classes.
    checkpoint : str, path, CheckpointFolder or None, default=None
        Folder for checkpoints, as for a learner: the same fit resumes from there, with the same
        bits. A learner that is not fitted is pretrained again, unless it has its own
        ``checkpoint`` or ``memory``.
    <shared parameters>

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    learner_ : learner
        Learner with the trained encoder; its ``transform`` returns features.
    history_ : list of dict
        Loss, learning rate, and accuracy on held-out images, for each epoch.
    n_labeled_ : int
        Number of images with a label.
    skipped_ : dict of int to str
        With ``on_error="skip"``, rows of ``X`` that could not be used for training, and why.
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
                    "class_weight needs one label per image, but y has several columns; give "
                    "class_weight=None"
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

    def _finish(self) -> nn.Module:
        return nn.Sigmoid() if self._has_several else nn.Softmax(1)

    def _class_names(self) -> list | None:
        return None if self._has_several else super()._class_names()

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute class scores.

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
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        outputs = torch.from_numpy(self._outputs(X)).double()  # float32 rounds more of them to 1
        return (outputs.sigmoid() if self._has_several else outputs.softmax(1)).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each image, or, for several labels, 1 or 0 for each.

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
        return tags


def quick_classifier(
    learner: Any = None, flip: float = 0.5, rotate: bool = False, **params: Any
) -> FineTunedClassifier:
    """Make a classifier that learns the most in a few minutes on a CPU, from scratch or a learner.

    Jordan 2024 has the network, the optimizer and the smoothing of labels
    (examples/benchmarks/minutes.py).
    """
    start = {"encoder": "small_convnet"} if learner is None else {"learner": learner}
    return FineTunedClassifier(
        **start,
        views=Views(crop_scale=(0.8, 1.0), flip=flip, rotate=rotate, jitter=None, gray=0, blur=0),
        label_smoothing=0.2,
        optimizer="muon",
        lr=0.01,
        **params,
    )


class FineTunedRegressor(LabeledRegressorMixin, FineTuned):
    """Encoder and linear regression, both trained on images with targets.

    None, NaN and NA in ``y`` mark images without a target, which are left out. With several
    targets, ``y`` of shape (n, k), images with a missing one are left out. Targets are
    standardized; the loss is the squared error.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Starting point, as for :class:`FineTunedClassifier`.
    checkpoint : str, path, CheckpointFolder or None, default=None
        Folder for checkpoints, as for a learner: the same fit resumes from there, with the same
        bits. A learner that is not fitted is pretrained again, unless it has its own
        ``checkpoint`` or ``memory``.
    <shared parameters>

    Attributes
    ----------
    learner_ : learner
        Learner with the trained encoder; its ``transform`` returns features.
    history_ : list of dict
        Loss, learning rate, and R2 on held-out images, for each epoch.
    n_labeled_ : int
        Number of images with a target.
    skipped_ : dict of int to str
        With ``on_error="skip"``, rows of ``X`` that could not be used for training, and why.
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
