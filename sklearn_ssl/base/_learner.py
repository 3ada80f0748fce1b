"""Base classes of learners, the scikit-learn estimators of pretext methods, and of their tasks."""

import contextlib
import functools
import importlib
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.optim import Optimizer

from sklearn_ssl._utils._estimators import all_or_nothing, plain
from sklearn_ssl._utils._messages import in_cross_validation, naming, warn, warn_of_interruption
from sklearn_ssl._utils._torch import (
    OwnRandomNumbers,
    current_processes,
    draw_seed,
    own_settings,
    processes_for,
    resolve_device,
    threads_that_survive_a_fork,
)
from sklearn_ssl.base import _measures
from sklearn_ssl.base._arguments import MultiCropArguments, TrainingArguments
from sklearn_ssl.base._cache import (
    cached_training,
    caches_trainings,
    identity_of,
    image_fingerprint,
    image_hashes,
)
from sklearn_ssl.base._transformer import ImageTransformer, read_for
from sklearn_ssl.encoders import Encoder, import_library
from sklearn_ssl.exceptions import (
    CollapseWarning,
    CrossValidationWarning,
    LittleTrainingWarning,
    StaleFeaturesWarning,
    TrainingInterrupted,
)
from sklearn_ssl.images import (
    Images,
    PixelRange,
    learn_pixels,
    read_images,
    refuse_images,
    warn_of_files,
)
from sklearn_ssl.nn import Queue
from sklearn_ssl.training import CheckpointFolder
from sklearn_ssl.views import MultiCrop, Views, as_views

# skorch is imported when a learner is fitted, to keep the package quick to import
if TYPE_CHECKING:
    from sklearn_ssl.training import PretextNet

if not TYPE_CHECKING and find_spec("sklearn.callback"):  # experimental, since scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
else:
    _Method = TypeVar("_Method")

    class CallbackSupportMixin:
        """In its place for older versions, and for type checkers, to which it says more."""

        history_: list[dict[str, Any]]
        n_epochs_: int
        n_images_seen_: int
        device_: torch.device
        image_shape_: tuple[int, int, int]

    def with_callbacks(method: _Method) -> _Method:
        return method


_IMAGES_COMPARED_ACROSS_PROCESSES = 16  # number of images that processes compare
_IMAGES_CHECKED = 256  # number of images, evenly spread, checked for being identical
_COLLAPSED = 1e-3  # feature spread below which features have collapsed
_FEW_IMAGES = 10
_ONE_PASS = 0.95  # share of the images; an epoch drops a last, smaller batch


@dataclass
class TaskOutput:
    """Output of a task for a batch.

    Parameters
    ----------
    loss : Tensor, a scalar
        Loss to minimize.
    terms : dict of str to scalar Tensor, optional
        Other values to record in ``history_``.
    state : object, optional
        Values of this batch that :meth:`PretextTask.after_step` needs, detached.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    state: Any = None


class PretextTask(nn.Module, ABC):
    """Views, heads and loss of a pretext method, trained on top of a given encoder.

    All state lives in parameters and persistent buffers, so that it is saved and resumed. Random
    draws by torch functions use the generators of the fit. :meth:`forward` must not change queues,
    memory banks or EMAs; :meth:`after_step` updates them. A step never reads a value back from the
    device: no ``.item()``, no indexing by a mask, no tensor created on the CPU.

    Parameters
    ----------
    encoder : Encoder
        Stored as ``self.encoder``; after training, features come from this attribute.
    views : callable
        Function that takes images in [0, 1] and draws one or several views of each.
    """

    encoder: Any
    views: Callable[..., Any]
    n_images: int | None = None  # of the training set, in tasks that store something for each

    @property
    def stores_images(self) -> bool:
        """Return whether a memory bank or a queue stores something of the images."""
        return self.n_images is not None or any(isinstance(part, Queue) for part in self.modules())

    def __init__(self, encoder: nn.Module, views: Callable[..., Any]):
        super().__init__()
        self.encoder = encoder
        self.views = views

    @abstractmethod
    def forward(self, images: Tensor, index: Tensor) -> TaskOutput:
        """Compute the loss of one batch.

        Parameters
        ----------
        images : float Tensor of shape (n, c, h, w)
            Images with values in [0, 1], without augmentation.
        index : int64 Tensor of shape (n,)
            Positions of the images in the training set.

        Returns
        -------
        TaskOutput
        """

    def pair(self, images: Tensor) -> Tensor:
        """Draw two views of each image, (2n, c, h, w): all first views, then all second views."""
        return torch.cat([self.views(images, view) for view in (0, 1)])

    def embed_crops(self, images: Tensor) -> Tensor:
        """Compute embeddings (v * n, d) of the two views and the small crops from ``MultiCrop``."""
        return torch.cat([self.encoder.embed(crops) for crops in self.views(images)])

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return the factor by which files are decoded larger than this shape, to crop views."""
        return self.views.zoom_for(image_shape) if hasattr(self.views, "zoom_for") else 1.0

    def after_step(self, output: TaskOutput, progress: float | None) -> None:
        """Update what is not learned by gradient (EMAs, queues), after the optimizer's step.

        ``output`` is what :meth:`forward` returned for the batch. ``progress`` is in (0, 1], or
        None if training has no known end, as in ``partial_fit``: then schedules stay at their
        start values, and anything delayed to a later part of the training is active at once.
        """

    def forget(self) -> None:
        """Drop everything stored of the images, before training continues on other images."""
        for part in self.modules():
            if isinstance(part, Queue):
                part.reset()


class PretextLearner(TrainingArguments, CallbackSupportMixin, ImageTransformer):
    """Base of all learners, including your own.

    A learner declares the arguments of its method as annotated attributes, and makes its task in
    :meth:`_make_task`. It needs no ``__init__`` and no decorator. In its docstring, the
    placeholders ``<shared parameters>`` and ``<attributes>`` are replaced by the shared text.

    Parameters
    ----------
    <shared parameters>

    Attributes
    ----------
    net_ : PretextNet
        skorch net that was trained, with its history, optimizer and module;
        ``net_.module_.task`` is the pretext task with its heads.
    encoder_ : Encoder
        Trained encoder, a torch module that takes images in [0, 1].
    history_ : list of dict
        One record per epoch: the terms of the loss, learning rate, seconds, number of images,
        images per second, and ``feature_spread``, which is 0 if all images have the same features.
        After a fit from pretrained weights, the last record also has ``moved``, a measure of how
        far training moved the features, from 0 to about 1: 1 minus the debiased linear CKA of the
        features before and after (:func:`sklearn_ssl.metrics.linear_cka`).
    n_epochs_ : int
        Number of epochs of training.
    n_images_seen_ : int
        Number of images seen in training, counted again in every epoch.
    image_shape_ : tuple of int
        Height, width and channels of the images.
    skipped_ : dict of int to str
        Rows of the training set whose files could not be read, with the reasons, if
        ``on_error="skip"``. Rows of ``X_unlabeled`` are numbered after those of ``X``.
    device_ : torch.device
        Device that the encoder is on.
    n_features_in_ : int
        Number of values per image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if ``X`` was a data frame of pixels.

    Examples
    --------
    >>> import torch.nn.functional as F
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
    >>> class AgreeTask(PretextTask):
    ...     def __init__(self, encoder, views, *, weight):
    ...         super().__init__(encoder, views)
    ...         self.weight = weight
    ...     def forward(self, images, index):
    ...         first, second = self.encoder.embed(self.pair(images)).chunk(2)
    ...         return TaskOutput(self.weight * F.mse_loss(first, second))
    >>> class Agree(PretextLearner):
    ...     weight: float = argument(float, default=1.0)
    ...     def _make_task(self, encoder, n_images):
    ...         return AgreeTask(encoder, self._make_views(), weight=self.weight)
    >>> X = load_digits().images[:128]
    >>> Agree(weight=0.5, max_epochs=1, random_state=0).fit(X).transform(X).shape
    (128, 512)
    """

    _usual_batch_size: ClassVar[int] = 128
    _saved_attributes = (*ImageTransformer._saved_attributes, "_fingerprint_")
    _shares_encoder: ClassVar[bool] = True  # False for methods with a special encoder
    _needs_a_teacher: ClassVar[bool] = False  # True if fit makes one, which MultiTask cannot do

    # Overridden by methods

    _task_class: ClassVar[Any] = None

    def _make_task(self, encoder: Any, n_images: int) -> PretextTask:
        """Make the task that trains ``encoder``; queues need not be longer than ``n_images``.

        By default, make a ``_task_class`` from the learner's arguments of the same names.
        """
        if self._task_class is None:
            raise TypeError(
                f"{type(self).__name__} has no task: set _task_class, or define _make_task"
            )
        return self._new_task(self._task_class, encoder)

    def _new_task(
        self, task: Callable[..., PretextTask], encoder: Any, views: Any = None, **given: Any
    ) -> PretextTask:
        """Make a task of a class from the learner's arguments of the same names, and ``given``."""
        names = self._arguments.keys() & set(_argument_names(task)) - {"encoder", "views"}
        own = {name: getattr(self, name) for name in names}
        if views is None:
            views = self._make_views()
            if isinstance(self, MultiCropArguments):
                views = MultiCrop(views, self.local_crops, self.local_scale, encoder.image_shape)
        return task(encoder, views, **own | given)

    # methods with a special encoder override it
    _make_encoder: ClassVar[Callable[..., Encoder]] = ImageTransformer._make_network

    def _default_views(self) -> Views:
        """Return the method's own recipe, which ``views=None`` stands for."""
        return Views()

    def _make_views(self, size: Any = None) -> Any:
        """Return the user's or the method's views; ``size`` is the default size of a view."""
        return as_views(self._default_views() if self.views is None else self.views, size)

    def _unseeded(self) -> str | None:
        """Return the name of the unset seed that makes every fit different, or None."""
        return "random_state" if self.random_state is None else None

    # Parameters, also of views and callbacks

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this learner and, if ``deep``, of the estimators among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of nested estimators.

        Returns
        -------
        dict
        """
        params = BaseEstimator.get_params(self, deep=False)
        nested = [(n, value) for n, value in params.items() if isinstance(value, BaseEstimator)]
        for name, value in nested if deep else ():  # others may have an unrelated get_params
            params |= {f"{name}__{n}": v for n, v in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of views (``views__size``) and callbacks (``callbacks__name__...``).

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        self
        """
        of_views = {n: params.pop(n) for n in list(params) if n.startswith("views__")}
        of_callbacks = {n: params.pop(n) for n in list(params) if n.startswith("callbacks__")}
        BaseEstimator.set_params(self, **params)  # first, as the recipe may depend on them
        for name, value in of_callbacks.items():
            self._set_of_callback(name, value)
        if of_views and self.views is None:
            self.views = self._default_views()
        if of_views and not isinstance(self.views, Views):
            raise ValueError(
                f"{', '.join(of_views)}: views={self.views!r} has no parameters to set; give a "
                "Views object"
            )
        return BaseEstimator.set_params(self, **of_views)

    def _set_of_callback(self, name: str, value: Any) -> None:
        _, which, *parameter = name.split("__", 2)
        callbacks = self.callbacks or []
        names = [pair[0] if isinstance(pair, tuple) else "" for pair in callbacks]
        if which not in names:
            raise ValueError(
                f"{name}: there is no callback of this name. To set parameters of callbacks, give "
                "them as pairs: callbacks=[('stop', EarlyStopping())]"
            )
        if parameter:
            changed = clone(callbacks[names.index(which)][1])
            changed.set_params(**{parameter[0]: value})  # skorch's set_params returns None
        else:  # a replacement, or None to remove it
            changed = value
        pairs = zip(names, callbacks, strict=True)
        changed_ones = [(which, changed) if n == which else callback for n, callback in pairs]
        self.callbacks = [one for one in changed_ones if one != (which, None)]

    def _validate(self) -> None:
        self._validate_params()
        if isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer):
            raise TypeError(f"optimizer={self.optimizer!r} is not a torch.optim.Optimizer class")
        for given in self.callbacks or ():
            callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
            if callback is not None and not hasattr(callback, "on_epoch_end"):
                raise TypeError(
                    f"callbacks contains {given!r}; give skorch callbacks or (name, callback) pairs"
                )
            if type(callback).__name__ == "LRScheduler":  # skorch is not imported for this
                warn(
                    "the callback LRScheduler has no effect, because the learning rate is set in "
                    "every step; use schedule=, warmup= and lr= of the learner",
                    UserWarning,
                )
        if isinstance(self.views, type):
            raise TypeError(f"'views' is a class; give an instance: {self.views.__name__}()")
        if isinstance(self.views, Views):
            self.views.validate()

    # Fitting

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Pretrain the encoder on images.

        Parameters
        ----------
        X : array-like, or images in files
            Images: an array of shape (n, pixels), (n, height, width) or (n, height, width,
            channels), in memory or not (HDF5, Zarr, xarray), a tensor of shape (n, channels,
            height, width), or a data frame of pixels. Or a list or column of paths, bytes, PIL
            images or arrays of different sizes, a folder, pattern or archive as for
            :func:`~sklearn_ssl.images.list_images`, or a torch or Hugging Face dataset.
        y : ignored
        X_unlabeled : array-like, optional
            More images to pretrain on, of the same shape and dtype. With it, a pipeline fitted to a
            few labeled images can learn from many unlabeled ones. Cross-validation splits it like
            ``X`` if it has the same number of rows, and passes it whole otherwise.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument or the images are invalid; the message says what is valid.
        DivergenceError
            If the loss becomes NaN or infinite.
        ImageReadError
            If a file cannot be read; a subclass of OSError.
        TrainingInterrupted
            After Ctrl-C; a subclass of KeyboardInterrupt. The learner is fitted, with what it
            learned before the interruption.
        """
        refuse_images(y, X)
        return self._fit(X, X_unlabeled, epochs=plain(self.max_epochs), continued=self.warm_start)

    @all_or_nothing
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one more pass over these images, at a constant learning rate.

        The first call learns the value range and the normalization of the images; images in later
        calls must have the same range. ``batch_size`` is reduced if there are fewer images.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.
        y : ignored

        Returns
        -------
        self
        """
        refuse_images(y, X)
        return self._fit(X, None, epochs=1, continued=True, streamed=True)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit the learner, and return the features of the same images.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.
        y : ignored
        **fit_params
            Other arguments of :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
        """
        given = self.__dict__.pop("_features_given_", False)  # this call returns the new ones
        try:
            features = super().fit_transform(X, y, **fit_params)
            given = True
        finally:
            if given:
                self._features_given_ = True
        return features

    def _fit(
        self,
        X: Any,
        X_unlabeled: Any,
        *,
        epochs: int,
        continued: bool,
        streamed: bool = False,
        began: float | None = None,
        timetable: Sequence[tuple[int, float]] = (),
        after_step: Callable[[], None] | None = None,
    ) -> Self:
        """Fit; with the ``timetable`` of an earlier timed fit, repeat its steps."""
        began = self._start_clock(self.encoder) if began is None else began
        self._validate()
        continued = continued and self.__sklearn_is_fitted__()
        if continued:
            _check_unchanged(self)
        images = read_training_images(self, X, X_unlabeled, continued)
        device = resolve_device(self.device)
        seed = draw_seed(self.random_state)
        if continued and self.random_state is not None:
            seed += self.n_epochs_  # not the random numbers of earlier epochs
        timed = self.time_budget is not None and not streamed and not timetable
        deadline = began + plain(self.time_budget) if timed else None
        epochs_before = self.n_epochs_ if continued else 0
        with (
            processes_for(device) as processes,
            threads_that_survive_a_fork(),
            own_settings(device),
        ):
            if processes.size > 1:
                _check_alike(processes, self, images, epochs, continued)
                seed = processes.first(lambda: seed)
            draws = OwnRandomNumbers(device, seed)
            fit = _Fit(X, images, draws, seed, streamed, deadline, timetable, after_step)
            if continued or self.memory is None or not caches_trainings(self):
                self._learn(fit, epochs, continued)
            else:
                with cached_training(self, images, seed, epochs, draws) as left:
                    if left is not None:
                        self._learn(fit, *left)
        warn_of_files(images, "were replaced by others; see skipped_")
        _warn_of_features(self, images, continued, trained=self.n_epochs_ > epochs_before)
        return self

    def _learn(self, fit: "_Fit", epochs: int, continued: bool) -> None:
        """Train a new net or a copy of the fitted one, and set the fitted attributes."""
        net = self._next_net(fit, continued)
        drift = None
        if self.weights is not None and not continued and epochs > 0:
            drift = _measures.FeatureDrift(net, fit.images)
        try:
            self._train(fit, net, epochs)
        except TrainingInterrupted:
            self._set_fitted(net, fit.images)
            warn_of_interruption(self)
            raise
        if drift is not None:
            drift.record(net)
        self._set_fitted(net, fit.images)

    def _next_net(self, fit: "_Fit", continued: bool) -> "PretextNet":
        """Return the net to train: a new one, or a copy of the fitted one."""
        plain_self, device = self._with_python_scalars(), resolve_device(self.device)
        batch_size = plain_self._choose_batch_size(len(fit.images), cut=fit.streamed)
        if continued:
            net = self.net_.copied()  # a failure must not change the fitted net
            net.set_options(plain_self._training_options(), batch_size, device)
            _match_stored_images(self, net.module_.task, fit.images, fit.streamed)
        else:
            with fit.draws:
                net = plain_self._build_net(fit.images, batch_size, device)
            self._feature_spec(net.encoder)
        return net

    def _train(self, fit: "_Fit", net: "PretextNet", epochs: int) -> None:
        """Train for ``epochs`` epochs, or until the deadline of the fit.

        ``partial_fit`` (``fit.streamed``) writes no checkpoints.
        """
        from sklearn_ssl.training import AfterStep, LoadWatch, ProgressBar, SklearnCallbacks

        images, deadline = fit.images, fit.deadline
        first = current_processes().rank == 0
        watchers: list[Any] = []
        if hasattr(self, "_init_callback_context") and not fit.streamed:
            fitted = functools.partial(self._fitted_attributes, net, images)
            known = epochs if deadline is None and not fit.timetable else None
            watchers.append(SklearnCallbacks(self, fit.X, known, fitted))
        if net.device == "cpu" and first:
            watchers.append(LoadWatch())
        if fit.after_step is not None:
            watchers.append(AfterStep(fit.after_step))
        with contextlib.ExitStack() as stack:
            if self.verbose and first:
                bar = ProgressBar(type(self).__name__, self.verbose)
                watchers.insert(0, stack.enter_context(contextlib.closing(bar)))
            checkpoints = None
            if self.checkpoint is not None and not fit.streamed:
                checkpoints = stack.enter_context(self._opened_checkpoints(fit, net))
            read = functools.partial(
                read_for, net, channel_order=self.channel_order, reading=self._reading("blank")
            )
            net.train(
                images,
                epochs,
                fit.draws,
                read=read,
                skips=self.on_error == "skip",
                seconds=None if deadline is None else max(deadline - time.monotonic(), 1e-3),
                timetable=fit.timetable,
                constant_lr=fit.streamed or self.schedule == "constant",
                watchers=watchers,
                checkpoints=checkpoints,
            )
        if deadline is not None and net.encoder_is_frozen():
            warn(
                f"time_budget={self.time_budget:g} was over within the first {net.frozen_epochs} "
                "epochs, in which frozen_epochs freezes the encoder, so it did not change; give it "
                "more time",
                ConvergenceWarning,
            )
        elif deadline is not None:
            _warn_of_little_time(self, net, len(images))
        if not fit.streamed and (epochs or deadline is not None) and len(images) < _FEW_IMAGES:
            warn(
                f"{len(images)} images are too few to learn much from; give more, or use a "
                "PretrainedEncoder, which needs no training",
                LittleTrainingWarning,
            )

    def _opened_checkpoints(self, fit: "_Fit", net: "PretextNet") -> Any:
        """Open the checkpoints of a training run."""
        checkpoint: Any = self.checkpoint
        if not isinstance(checkpoint, CheckpointFolder):
            checkpoint = CheckpointFolder(checkpoint)
        training = {
            **identity_of(self, fit.images),
            "seed": None if self.random_state is None else fit.seed,
            "epochs before": len(net.history),
            "pixels": image_hashes(fit.images),
        }
        return checkpoint.opened(training, fit.draws)

    def _choose_batch_size(self, n_images: int, cut: bool) -> int:
        """Return the batch size: the argument, limited to ``n_images`` if ``cut``, or a default."""
        wanted, n_processes = plain(self.batch_size), current_processes().size
        if wanted is None:
            size = min(self._usual_batch_size, max(2, n_images // 4))
        else:
            size = min(wanted, n_images)
            trains = plain(self.max_epochs) != 0 or self.time_budget is not None
            if size < wanted and trains and not cut:
                warn(
                    f"batch_size={wanted} is larger than the number of images; it is reduced to "
                    f"{n_images}, which weakens methods that compare the images of a batch",
                    LittleTrainingWarning,
                )
        if size % n_processes:
            raise ValueError(
                f"batch_size={wanted}, which is {size} for {n_images} images, cannot be split "
                f"evenly among {n_processes} processes; give a multiple of {n_processes}"
            )
        return size

    @staticmethod
    def _start_clock(*encoders: Any) -> float:
        """Import everything training needs, then return the time of the monotonic clock."""
        importlib.import_module("sklearn_ssl.training._loop")
        for encoder in encoders:
            import_library(encoder)
        # creating the first optimizer imports torch's compiler (900 modules)
        torch.optim.SGD([torch.zeros(1, device="cpu")], lr=1.0)
        return time.monotonic()

    # Build

    def _build_net(self, images: Images, batch_size: int, device: torch.device) -> "PretextNet":
        pixels, mean, std = learn_pixels(images)
        encoder = self._make_encoder(images.shape, mean, std)
        return self._assemble(pixels, encoder, batch_size, device)

    def _assemble(
        self, pixels: PixelRange, encoder: Encoder, batch_size: int, device: torch.device
    ) -> "PretextNet":
        from sklearn_ssl.training import PretextModule, PretextNet

        net = PretextNet(
            PretextModule(pixels, self._make_task(encoder, pixels.n_images)),
            batch_size=batch_size,
            device=str(device),
            **self._training_options(),
        )
        return net.initialize()

    def _training_options(self) -> dict[str, Any]:
        names = (
            *("optimizer", "lr", "weight_decay", "warmup", "frozen_epochs", "trainable_layers"),
            *("frozen_batch_norm", "layer_decay", "precision", "deterministic", "callbacks"),
        )
        return {name: getattr(self, name) for name in names}

    # Fitted attributes

    def _set_fitted(self, net: "PretextNet", images: Images) -> None:
        images.merge_problems(current_processes().gathered(images.problems))
        self.__dict__.update(self._fitted_attributes(net, images))
        self._fingerprint_ = _fingerprint(net.module_.task, images)

    def _fitted_attributes(self, net: "PretextNet", images: Images) -> dict[str, Any]:
        return {
            **self._net_attributes(net),
            "image_shape_": images.shape,
            "skipped_": images.skipped,
        }

    def _construction_arguments(self) -> dict[str, Any]:
        """Return the arguments that the network and its task are built from."""
        changeable = {name for name, known in self._arguments.items() if known["changeable"]}
        params = self.get_params(deep=True)
        nested = {name.partition("__")[0] for name in params if "__" in name}
        return {
            name: value
            for name, value in params.items()
            if changeable.isdisjoint(name.split("__")) and name not in nested
        }

    def _net_attributes(self, net: "PretextNet") -> dict[str, Any]:
        return {
            "net_": net,
            "_constructed_with_": self._construction_arguments(),
            "history_": net.epochs(),
            "n_epochs_": len(net.history),
            "n_images_seen_": sum(row["images"] for row in net.history),
            "device_": torch.device(net.device),
        }

    # Label-free measures

    def pretext_loss(self, X: Any, *, random_state: Any = None) -> float:
        """Compute the mean loss of the pretext task on images, usually held-out ones.

        Batches have the size used in training, and batch norm uses their statistics, as in
        training, but nothing is updated. Use it to compare training runs of one method; losses of
        different methods are not comparable.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        random_state : int, RandomState instance or None, default=None
            Seed for views and other random draws of the task.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For methods that store something for each training image, which other images lack.
        """
        return _measures.pretext_loss(self, X, random_state)

    def draw_views(self, X: Any, n_views: int = 2, *, random_state: Any = None) -> np.ndarray:
        """Draw views of images with the learner's recipe.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        n_views : int, default=2
            Number of views per image. Every second one uses the recipe of second views, where the
            method has one.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        ndarray of shape (n, n_views, height, width, channels), float32
            Views with values in [0, 1].
        """

        def pixels(views: list[Tensor]) -> Tensor:
            return torch.stack(views, 1).permute(0, 1, 3, 4, 2).contiguous()

        return _measures.of_views(self, X, n_views, random_state, pixels)

    def transform_views(self, X: Any, n_views: int = 2, *, random_state: Any = None) -> np.ndarray:
        """Draw views of images, and compute their features.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        n_views : int, default=2
            Number of views per image.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        ndarray of shape (n, n_views, n_features_out), float32
            Features of ``layer``, pooled by ``pool``. A grid has the same number of cells for views
            as for images, whatever their size.
        """
        encoder, spec, mirror = self.encoder_, self._feature_spec(self.encoder_), self.mirror

        def features(views: list[Tensor]) -> Tensor:
            return torch.stack([encoder.features(view, spec, mirror) for view in views], 1)

        return _measures.of_views(self, X, n_views, random_state, features)


@dataclass
class _Fit:
    """Input and derived settings of one call of ``fit`` or ``partial_fit``."""

    X: Any
    images: Images
    draws: OwnRandomNumbers
    seed: int
    streamed: bool
    deadline: float | None  # on the monotonic clock
    timetable: Sequence[tuple[int, float]]
    after_step: Callable[[], None] | None


# Checks of a fit


def _argument_names(task: Any) -> Iterator[str]:
    """Yield the names of a task's arguments, including those it passes on to its bases."""
    for cls in task.__mro__ if isinstance(task, type) else [task]:
        if not isinstance(cls, type) or "__init__" in vars(cls):
            parameters = inspect.signature(cls).parameters
            yield from parameters
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return


def _check_unchanged(learner: Any) -> None:
    """Raise ValueError if an argument that the network was built from has changed."""
    before, now = learner._constructed_with_, learner._construction_arguments()
    changed = [name for name in before | now if before.get(name, "") != now.get(name, "")]
    if changed:
        raise ValueError(
            f"{', '.join(changed)} changed since the encoder was built, and cannot change in a "
            "continued fit; use fit with warm_start=False to start over"
        )


def read_training_images(learner: Any, X: Any, X_unlabeled: Any, continued: bool) -> Images:
    """Read all images to train on, and check that they have the same shape and value range."""
    read = functools.partial(
        read_images,
        estimator=learner,
        channel_order=learner.channel_order,
        reading=learner._reading("replace"),
    )
    if continued:
        pixels = learner.net_.module_.pixels
        images = read(X, fitted_shape=learner.image_shape_, fitted_dtype=pixels.dtype)
    else:
        images = read(X, image_shape=learner.image_shape)
    if X_unlabeled is not None:
        with naming("X_unlabeled"):
            more = read(
                X_unlabeled,
                fitted_shape=images.shape,
                fitted_dtype=images.dtype,
                min_images=1,
                name="X_unlabeled",
            )
        if len(more) == len(images) and in_cross_validation():
            warn(
                f"X and X_unlabeled both have {len(images)} images in this fold. scikit-learn's "
                "cross-validation cuts an array that is as long as X to the fold's rows: if "
                "X_unlabeled was to be used whole, give one image more or less",
                CrossValidationWarning,
            )
        if more.is_uint8 != images.is_uint8:
            raise ValueError(
                f"X has dtype {images.dtype} and X_unlabeled {more.dtype}; give both as uint8 or "
                "both as floats, in the same range"
            )
        if not (continued or images.is_uint8):
            pixels, _, _ = learn_pixels(images)
            more.origin = images.origin
            pixels.check(more, "X_unlabeled")
        images = Images(*images.arrays, *more.arrays, shape=images.shape)
    if continued:
        pixels = learner.net_.module_.pixels
        images.origin = pixels.origin
        pixels.check(images)
    return images


def _fingerprint(task: Any, images: Images) -> str | None:
    """Return a hash of the images, or of a sample, if the task stores any of them, or None."""
    return image_fingerprint(images) if task.stores_images else None


def _match_stored_images(learner: Any, task: Any, images: Images, streamed: bool) -> None:
    """Drop what the task stored of its images if a continued fit has other images.

    In a stream (``partial_fit``), queues are kept across calls.

    Raises
    ------
    ValueError
        If the task needs the same images.
    """
    if _fingerprint(task, images) == learner._fingerprint_:
        return
    if task.n_images is not None:
        raise ValueError(
            f"{type(learner).__name__} stores something for each image of the first fit, which had "
            f"{task.n_images}; a continued fit needs the same images in the same order, not "
            f"{len(images)} others"
        )
    if not streamed:
        task.forget()


def _check_alike(
    processes: Any, learner: Any, images: Images, epochs: int, continued: bool
) -> None:
    """Raise ValueError if processes that train together have different arguments or images."""
    own = {
        **identity_of(learner, images),
        "epochs": epochs,
        "epochs before": learner.n_epochs_ if continued else 0,
        "memory": str(learner.memory),
        "checkpoint": str(learner.checkpoint),
        "values of images": image_fingerprint(images, _IMAGES_COMPARED_ACROSS_PROCESSES),
    }
    for rank, other in enumerate(processes.gathered(own)):
        if different := [name for name in own if own[name] != other.get(name)]:
            raise ValueError(
                f"processes {processes.rank} and {rank} of {processes.size}, which train together, "
                f"differ in {', '.join(different)}. Run the same script in each, with the same "
                "images in the same order"
            )


# Warnings


def _warn_of_little_time(learner: Any, net: Any, n_images: int) -> None:
    seen = sum(row["images"] for row in net.history[net.epochs_before_ :])
    if seen <= net.batch_size or seen < _ONE_PASS * n_images:
        steps = "a single step" if seen <= net.batch_size else f"{seen // net.batch_size} steps"
        warn(
            f"time_budget={learner.time_budget:g} was over after {steps}, in which each image was "
            f"seen {seen / n_images:.2g} times on average. Give it more time, a smaller network or "
            "smaller views",
            LittleTrainingWarning,
        )


def _warn_of_features(learner: Any, images: Images, continued: bool, trained: bool) -> None:
    """Warn if features are the same for all images, or have changed since they were used."""
    name = type(learner).__name__
    if trained and (spread := learner.history_[-1]["feature_spread"]) < _COLLAPSED:
        why = (
            f"{min(len(images), _IMAGES_CHECKED)} images of X were compared, and all are "
            "identical. Check how they were read and scaled"
            if _are_identical(images)
            else "the representation has collapsed. Try a smaller lr, a larger batch_size, or "
            "another random_state"
        )
        warn(
            f"the features of {name} are nearly the same for all images (spread {spread:.1e}): "
            f"{why}",
            CollapseWarning,
        )
    given = learner.__dict__.pop("_features_given_", False)
    if continued and given:
        warn(
            f"{name} was trained further, so its features changed: anything fitted to the earlier "
            "ones, such as later steps of a pipeline, must be fitted again",
            StaleFeaturesWarning,
        )


def _are_identical(images: Images) -> bool:
    """Return whether all images in a sample are identical."""
    rows = np.linspace(0, len(images) - 1, min(len(images), _IMAGES_CHECKED)).astype(int)
    some = images.take(rows)
    return bool((some == some[:1]).all())
