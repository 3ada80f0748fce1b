"""What fine-tuned classifiers and regressors share."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._arguments import COUNT, DeclaredArguments, argument, plain
from sklearn_ssl._utils._docstrings import fill_docstring
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.base._checks import (
    all_or_nothing,
    inner_training,
    lost_if_interrupted,
    warn_of_interruption,
)
from sklearn_ssl.base._image_arguments import ImageArguments, WeightsArguments
from sklearn_ssl.base._nested import NestedParameters
from sklearn_ssl.base._training_arguments import DeviceArguments, RunArguments, TrainingArguments
from sklearn_ssl.exceptions import TrainingInterrupted
from sklearn_ssl.images import count_images, read_images
from sklearn_ssl.inference import apply
from sklearn_ssl.probes._labeled import rows_of
from sklearn_ssl.probes._supervised import Supervised
from sklearn_ssl.views import Views

__all__ = ["FineTuned"]


class FineTuned(
    NestedParameters,
    RunArguments,  # dataclasses take the fields of the last base first
    DeviceArguments,
    TrainingArguments,
    ImageArguments,
    WeightsArguments,
    DeclaredArguments,
    BaseEstimator,
):
    """A net that starts from a learner or an encoder, and is trained with targets."""

    learner: Any = argument(default="small_resnet", kw_only=False)
    max_epochs: int = 20
    lr: float = 1e-3
    early_stopping: bool = argument("boolean", default=False)
    validation_fraction: float = argument(Interval(Real, 0, 1, closed="neither"), default=0.1)
    patience: int = argument(COUNT, default=5)

    _usual_batch_size: ClassVar[int] = 128

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
        labels, is_labeled = self._read_y(y, count_images(X))
        targets, learned, n_outputs, loss = self._learn_targets(labels)
        source = self._fitted_source(X)
        X = rows_of(X, is_labeled)
        callbacks = list(self.callbacks or ())
        if self.early_stopping:
            X, targets, stopping = self._hold_out(X, targets)
            callbacks += stopping
        shared = Supervised._arguments.keys() & self.get_params(deep=False).keys()
        params = {name: getattr(self, name) for name in shared - {"callbacks", "encoder"}}
        if params["views"] is None:
            params["views"] = self._default_views()
        encoder = self.learner if source is None else "small_resnet"
        trained = Supervised(
            encoder=encoder, callbacks=callbacks, source=source, n_outputs=n_outputs,
            targets=torch.as_tensor(targets), loss=loss, **params,
        )  # fmt: skip
        try:
            with inner_training():
                trained.fit(X)
        except TrainingInterrupted:
            self._keep(trained, learned, len(labels))
            warn_of_interruption(trained, kept_by=self)
            raise
        self._keep(trained, learned, len(labels))
        return self

    def _keep(self, trained: Supervised, learned: dict[str, Any], n_labeled: int) -> None:
        trained.set_params(source=None, targets=None, callbacks=None)
        self.__dict__.update(learned, learner_=trained, history_=trained.history_)
        self.n_labeled_ = n_labeled
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(trained, name):
                setattr(self, name, getattr(trained, name))

    def _fitted_source(self, X: Any) -> Any:
        """The learner to start from, which is fitted first if it is not; None for a name."""
        given = self.learner
        if isinstance(given, FrozenEstimator):
            given = given.estimator
        if not isinstance(given, PretextLearner):
            if not isinstance(given, str) and not callable(given):
                raise TypeError(
                    f"learner={given!r}: give a learner, or an encoder as a learner takes it"
                )
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

    def _hold_out(self, X: Any, targets: np.ndarray) -> tuple[Any, np.ndarray, list]:
        """What is left to train on, and callbacks that end it by the rest."""
        from skorch.callbacks import EarlyStopping, EpochScoring
        from skorch.utils import noop

        rows, held_out = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            random_state=0,
            stratify=self._strata(targets),
        )
        X_held_out, wanted = _safe_indexing(X, held_out), targets[held_out]

        def measure(net: Any, *_: Any) -> float:
            images = read_images(
                X_held_out,
                estimator=clone(self),
                channel_order=self.channel_order,
                fitted_shape=net.encoder.image_shape,
                fitted_dtype=net.module_.pixels.dtype,
                min_images=1,
            )
            images.origin = net.module_.pixels.origin
            return self._quality(apply(net, net.module_.task.outputs, images), wanted)

        name, patience = "valid_score", int(plain(self.patience))
        stopping = [
            EpochScoring(
                measure, lower_is_better=False, name=name, on_train=True, use_caching=False
            ),
            EarlyStopping(
                name, patience, threshold=0, lower_is_better=False, load_best=True, sink=noop
            ),
        ]
        return _safe_indexing(X, rows), targets[rows], stopping

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        task = self.learner_.net_.module_.task
        return self.learner_._apply(task.outputs, self.learner_._read_images(X))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "learner_")

    # Of the kind of targets

    _read_y: ClassVar[Callable[..., tuple[np.ndarray, np.ndarray]]]
    _learn_targets: ClassVar[Callable[..., tuple]]
    _quality: ClassVar[Callable[..., float]]
    _strata: ClassVar[Callable[..., Any]]
