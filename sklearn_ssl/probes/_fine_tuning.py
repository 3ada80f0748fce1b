"""Base of fine-tuned classifiers and regressors."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._utils._arguments import COUNT, COUNT_OR_ZERO, DeclaredArguments, argument, plain
from sklearn_ssl._utils._docstrings import fill_docstring
from sklearn_ssl._utils._isolation import own_settings
from sklearn_ssl._utils._messages import warn
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.base._checks import (
    all_or_nothing,
    built_in,
    choose_batch_size,
    draw_seed,
    inner_training,
    lost_if_interrupted,
    warn_of_interruption,
)
from sklearn_ssl.base._image_arguments import ImageArguments, WeightsArguments
from sklearn_ssl.base._nested import NestedParameters
from sklearn_ssl.base._saved import SavedMixin
from sklearn_ssl.base._training_arguments import DeviceArguments, RunArguments, TrainingArguments
from sklearn_ssl.exceptions import LabelWarning, TrainingInterrupted
from sklearn_ssl.images import count_images, opened, pick
from sklearn_ssl.inference import Predictor, apply_checked
from sklearn_ssl.probes._labeled import rows_of
from sklearn_ssl.probes._modules import ExportMixin
from sklearn_ssl.probes._supervised import Supervised
from sklearn_ssl.probes._unread import read_rows
from sklearn_ssl.views import Views

__all__ = ["FineTuned"]

_EPOCHS, _STEPS = 20, 600  # the least of both that is trained by default


class FineTuned(
    NestedParameters,
    ExportMixin,
    SavedMixin,
    RunArguments,  # dataclasses take the fields of the last base first
    DeviceArguments,
    TrainingArguments,
    ImageArguments,
    WeightsArguments,
    DeclaredArguments,
    BaseEstimator,
):
    """Base of estimators that start from a learner or an encoder, and train it with targets."""

    learner: Any = argument(default="small_resnet", kw_only=False)
    views: Views | Callable[..., Any] | None = argument(
        Views,
        callable,
        None,
        default=None,
        doc="""Views, callable or None
How images are augmented. ``None`` crops and flips them. Views without a ``size`` are as large as
the images here, and images are predicted at the size of the views. A callable takes a batch of
images, a float tensor (n, c, h, w) in [0, 1], and gives one of views.""",
    )
    max_epochs: int | None = argument(
        COUNT_OR_ZERO,
        None,
        default=None,
        changeable=True,
        doc="""int or None
Number of passes over the images. ``None`` takes 20 or, with few images, as many as make 600
steps.""",
    )
    lr: float = 2e-3
    early_stopping: bool = argument("boolean", default=False)
    validation_fraction: float = argument(Interval(Real, 0, 1, closed="neither"), default=0.1)
    patience: int = argument(COUNT, default=5)

    _usual_batch_size: ClassVar[int] = 64

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fill_docstring(cls)

    def _default_views(self) -> Views:
        return Views(crop_scale=(0.3, 1.0), jitter=None, gray=0, blur=0)

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Train the encoder and a linear head on labeled images.

        Parameters
        ----------
        X : array-like, or images in files
            As for a learner.
        y : array-like of shape (n,)
            Labels or targets. Images without one are left out, but a learner that is not fitted is
            pretrained on them, too.

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
            After Ctrl-C; a KeyboardInterrupt. What was learned until then is kept, but nothing of
            a learner that is pretrained first.
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
        """Keep what was learned from these rows of X."""
        self._let_go(trained)
        self.__dict__.update(learned, learner_=trained, history_=trained.history_)
        self.n_labeled_ = n_labeled
        self.skipped_ = {int(rows[row]): reason for row, reason in trained.skipped_.items()}
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(trained, name):
                setattr(self, name, getattr(trained, name))

    def _supervised(self, source: Any, targets: Any, n_outputs: int, loss: Any) -> Supervised:
        """Make the learner that is trained."""
        shared = Supervised._arguments.keys() & self.get_params(deep=False).keys()
        params = {name: getattr(self, name) for name in shared - {"callbacks", "encoder"}}
        if params["views"] is None:
            params["views"] = self._default_views()
        if self.max_epochs is None:
            params["max_epochs"] = self._usual_epochs(len(targets))
        if params["image_shape"] is None:  # a file has a source that is not fitted
            params["image_shape"] = getattr(source, "image_shape_", None)
        encoder = self.learner if source is None else "small_resnet"
        of_task = {"source": source, "n_outputs": n_outputs, "targets": targets, "loss": loss}
        return Supervised(encoder=encoder, **of_task, **params)

    def _usual_epochs(self, n_images: int) -> int:
        """Return the usual number of epochs: more for few images, as steps are what counts."""
        n_steps = max(1, n_images // choose_batch_size(self, n_images, cut=True))
        return max(_EPOCHS, math.ceil(_STEPS / n_steps))

    @staticmethod
    def _let_go(trained: Supervised) -> None:
        """Drop what it was trained with: labels, held-out images, the learner it started from."""
        trained.set_params(source=None, targets=None, loss=None, callbacks=None)
        trained._built_in_ = built_in(trained)
        net, task = trained.net_, trained.net_.module_.task
        net.callbacks, net.callbacks_ = None, []
        task.targets, task.loss = task.targets[:0].clone(), None

    def _fitted_source(self, X: Any) -> Any:
        """Return the learner to start from, after a fit if it needs one, or None for a name."""
        given = self._given_learner()
        if given is None:
            return None
        if not given._shares_encoder:
            raise ValueError(
                f"{type(given).__name__} has an encoder of its own kind, which cannot be tuned"
            )
        if not given.__sklearn_is_fitted__():
            given = clone(given)
            with lost_if_interrupted(self, given):
                given.fit(X)
        return given

    def _given_learner(self) -> Any:
        """Return the learner to start from; None for a name or a class of an encoder."""
        given = self.learner
        if isinstance(given, FrozenEstimator):
            given = given.estimator
        if isinstance(given, PretextLearner):
            return given
        if not isinstance(given, str) and not callable(given):
            raise TypeError(
                f"learner={given!r}: give a learner, or an encoder as a learner takes it"
            )
        return None

    def _hold_out(self, X: Any, targets: np.ndarray) -> tuple[np.ndarray, list]:
        """Return the rows left to train on, and callbacks that stop early by the others."""
        from skorch.callbacks import EpochScoring

        from sklearn_ssl.training import StopEarly

        rows, held_out = self._split(targets)
        X_held_out, wanted = pick(X, held_out), targets[held_out]

        def measure(net: Any, *_: Any) -> float:
            images = net.read_(X_held_out)
            outputs = apply_checked(net, net.module_.task.predicted, images)
            read = read_rows(outputs, "images that early_stopping=True holds out")
            return self._quality(outputs[read], wanted[read])

        score = EpochScoring(
            measure, lower_is_better=False, name="valid_score", on_train=True, use_caching=False
        )
        return rows, [score, StopEarly("valid_score", int(plain(self.patience)))]

    def _split(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split rows to train on from rows to hold out, with all classes in both if possible."""
        n, seed = len(targets), draw_seed(self, continued=False)
        n_held_out = int(np.ceil(plain(self.validation_fraction) * n))
        strata = self._strata(targets)
        counts = np.bincount(np.zeros(n, int) if strata is None else strata)
        if counts.min() > 1 and max(len(counts), 2) <= n - n_held_out and len(counts) <= n_held_out:
            rows, held_out = train_test_split(
                np.arange(n), test_size=n_held_out, random_state=seed, stratify=strata
            )
            return np.sort(rows), np.sort(held_out)
        order = np.random.RandomState(seed).permutation(n)
        classes = np.zeros(n, int) if strata is None else strata[order]
        _, first = np.unique(classes, return_index=True)  # of each class, which are trained on
        held_out = np.sort(np.delete(order, first)[:n_held_out])
        if not len(held_out) or n - len(held_out) < 2:
            of_classes = "" if strata is None else f" of {len(counts)} classes"
            raise ValueError(
                "early_stopping=True needs images to hold out, and two to train on, for which "
                f"{n} images{of_classes} are too few; give more images, or early_stopping=False"
            )
        if strata is not None:
            warn(
                f"early_stopping judges by {len(held_out)} images, of "
                f"{len(np.unique(strata[held_out]))} of {len(counts)} classes; give more images, "
                "or a larger validation_fraction",
                LabelWarning,
            )
        return np.delete(np.arange(n), held_out), held_out

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        task = self.learner_.net_.module_.task
        return self.learner_._apply(task.predicted, self.learner_._read_images(X))

    # Modules of torch

    def to_torch(self) -> nn.Module:
        """Return the network as a module of torch alone.

        Returns
        -------
        nn.Module
            Takes pixels (n, channels, height, width) as they were fitted, in any type, and gives
            probabilities of classes (n, n_classes), or targets, float32.
        """
        check_is_fitted(self)
        net = self.learner_.net_
        with own_settings(torch.device("cpu")):
            task = net.module_.task
            return Predictor(net.module_.pixels, net.encoder, task.size, task.head, self._finish())

    def _example(self) -> tuple[Tensor, str]:
        return self.learner_._example(), "pixels"

    # Files: the network is built anew, as that of a learner

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

    # Of the kind of targets

    _read_y: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]
    _learn_targets: ClassVar[Callable[..., tuple]]
    _finish: ClassVar[Callable[..., nn.Module]]
    _quality: ClassVar[Callable[..., float]]
    _strata: ClassVar[Callable[..., Any]]
