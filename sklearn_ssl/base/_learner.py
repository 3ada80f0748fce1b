"""Base class of learners: scikit-learn's face of a pretext method."""

from abc import abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl._utils._device import resolve_device, threads_that_survive_a_fork
from sklearn_ssl._utils._isolation import OwnRandomNumbers, own_settings
from sklearn_ssl._utils._ranks import current_ranks, joined
from sklearn_ssl.base import _checks
from sklearn_ssl.base._arguments import SharedArguments
from sklearn_ssl.base._measures import MeasuresMixin
from sklearn_ssl.base._memory import keeps_trainings, pretrain_once
from sklearn_ssl.base._task import PretextTask
from sklearn_ssl.base._training import Moved, clock_started, train
from sklearn_ssl.base._transformer import ImageTransformer
from sklearn_ssl.encoders import Encoder
from sklearn_ssl.exceptions import TrainingInterrupted
from sklearn_ssl.images import Images, PixelRange, learn_pixels, warn_of_files

# skorch is imported when a learner is fitted, to keep the package quick to import
if TYPE_CHECKING:
    from sklearn_ssl.training import PretextNet

if TYPE_CHECKING or find_spec("sklearn.callback"):  # experimental, since scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
else:

    class CallbackSupportMixin:
        pass

    def with_callbacks(method):
        return method


__all__ = ["PretextLearner"]


class PretextLearner(
    SharedArguments,
    MeasuresMixin,
    CallbackSupportMixin,
    ImageTransformer,
):
    """Base of all learners, and of those that you write.

    A learner declares the arguments of its method as annotated attributes, and says in
    :meth:`_make_task` what its task is. It needs no ``__init__`` and no decorator. Its docstring
    may have ``<shared parameters>`` and ``<attributes>`` where the text that all share goes.

    Parameters
    ----------
    <shared parameters>

    Attributes
    ----------
    <attributes>

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
    _kept_attributes = (*ImageTransformer._kept_attributes, "_fingerprint_")
    _shares_encoder: ClassVar[bool] = True  # False for methods with an encoder of their own kind
    _needs_a_teacher: ClassVar[bool] = False  # which is made in its fit, and by no MultiTask

    # What a method says

    @abstractmethod
    def _make_task(self, encoder: Any, n_images: int) -> PretextTask:
        """Make the task that trains ``encoder``; queues need not be longer than ``n_images``."""

    def _make_encoder(
        self, image_shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
    ) -> Encoder:
        """Make the encoder; methods with an encoder of their own kind override it."""
        return self._make_network(image_shape, mean, std)

    def _unseeded(self) -> str | None:
        """Return the name of the argument that makes every fit another one, or None."""
        return "random_state" if self.random_state is None else None

    # Fitting

    @_checks.all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Pretrain the encoder on images.

        Parameters
        ----------
        X : array-like, or images in files
            An array of shape (n, pixels), (n, height, width) or (n, height, width, channels), in
            memory or not (HDF5, Zarr, xarray), a tensor of shape (n, channels, height, width), or
            a data frame of pixels. Or a list or column of paths, bytes, PIL images or arrays of
            several sizes, what :func:`~sklearn_ssl.images.list_images` takes, or a data set of
            torch or Hugging Face.
        y : ignored
        X_unlabeled : array-like, optional
            More images to pretrain on, of the same shape and dtype. This is how a pipeline that is
            fitted to a few labeled images learns from many. Cross-validation cuts it like ``X``
            if it has as many rows, and passes it whole otherwise.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument or the images are not usable; the message says what is.
        DivergenceError
            If the loss becomes NaN or infinite.
        ImageReadError
            If a file cannot be read; an OSError.
        TrainingInterrupted
            After Ctrl-C; a KeyboardInterrupt. The learner has what it learned until then.
        """
        _checks.refuse_images(y, X)
        return self._fit(X, X_unlabeled, epochs=plain(self.max_epochs), continued=self.warm_start)

    @_checks.all_or_nothing
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one more pass over these images, at a constant learning rate.

        The first call learns the value range and the normalization of the images; later ones have
        to come in the same range. A ``batch_size`` larger than the number of images is cut to it.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.
        y : ignored

        Returns
        -------
        self
        """
        _checks.refuse_images(y, X)
        return self._fit(X, None, epochs=1, continued=True, streamed=True)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit the learner, and return the features of the same images.

        Parameters
        ----------
        X : array-like
        y : ignored
        **fit_params
            As of :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
        """
        given = self.__dict__.pop("_features_given_", False)  # who asks gets the new ones
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
    ) -> Self:
        began = clock_started(self.encoder) if began is None else began
        self._validate()
        continued = continued and self.__sklearn_is_fitted__()
        if continued:
            _checks.check_unchanged(self)
        images = _checks.read_training_images(self, X, X_unlabeled, continued)
        device = resolve_device(self.device)
        own_seed = _checks.draw_seed(self, continued)
        timed = self.time_budget is not None and not streamed
        deadline = began + plain(self.time_budget) if timed else None
        with joined(device) as ranks, threads_that_survive_a_fork(), own_settings(device):
            _checks.check_alike(ranks, self, images, epochs, continued)
            seed = ranks.first(lambda: own_seed)
            draws = OwnRandomNumbers(device, seed)

            def learn(epochs: int, continued: bool) -> None:
                net = self._next_net(images, draws, continued, streamed)
                has_weights = self.weights is not None and not continued and epochs > 0
                moved = Moved(net, images) if has_weights else None
                try:
                    train(
                        self,
                        net,
                        draws,
                        images,
                        epochs,
                        X=X,
                        seed=seed,
                        streamed=streamed,
                        deadline=deadline,
                    )
                except TrainingInterrupted:
                    self._keep(net, images)
                    _checks.warn_of_interruption(self)
                    raise
                if moved is not None:
                    moved.record(net)
                self._keep(net, images)

            epochs_before = self.n_epochs_ if continued else 0
            if continued or not keeps_trainings(self):
                learn(epochs, continued)
            else:
                pretrain_once(self, images, seed, epochs, draws, learn)
        warn_of_files(images, "others were taken in their place; see skipped_")
        _checks.warn_of_features(self, images, continued, trained=self.n_epochs_ > epochs_before)
        return self

    def _next_net(
        self, images: Images, draws: OwnRandomNumbers, continued: bool, streamed: bool
    ) -> "PretextNet":
        """Return the net to train: a new one, or a copy of the one that is fitted."""
        plainly, device = self._plainly(), resolve_device(self.device)
        batch_size = _checks.choose_batch_size(plainly, len(images), cut=streamed)
        if continued:
            net = self.net_.copied()  # a failure must not touch what is fitted
            net.set_training(plainly._training_options(), batch_size, device)
            _checks.keep_or_forget(self, net.module_.task, images, streamed)
        else:
            with draws:
                net = plainly._build_net(images, batch_size, device)
            self._wanted(net.encoder)
        return net

    # Build

    def _build_net(self, images: Images, batch_size: int, device: torch.device) -> "PretextNet":
        pixels, mean, std = learn_pixels(images)
        return self._assemble(pixels, mean, std, images.shape, len(images), batch_size, device)

    def _assemble(
        self,
        pixels: PixelRange,
        mean: Sequence[float],
        std: Sequence[float],
        image_shape: tuple[int, int, int],
        n_images: int,
        batch_size: int,
        device: torch.device,
    ) -> "PretextNet":
        from sklearn_ssl.training import PretextModule, PretextNet

        encoder = self._make_encoder(image_shape, mean, std)
        task = self._make_task(encoder, n_images)
        net = PretextNet(
            PretextModule(pixels, task),
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

    # What is learned

    def _keep(self, net: "PretextNet", images: Images) -> None:
        images.know(current_ranks().gathered(images.troubles))
        self.__dict__.update(self._fitted_attributes(net, images))
        self._fingerprint_ = _checks.fingerprint(net.module_.task, images)

    def _fitted_attributes(self, net: "PretextNet", images: Images) -> dict[str, Any]:
        return {**self._learned(net), "image_shape_": images.shape, "skipped_": images.skipped}

    def _learned(self, net: "PretextNet") -> dict[str, Any]:
        return {
            "net_": net,
            "_built_in_": _checks.built_in(self),
            "history_": net.epochs(),
            "n_epochs_": len(net.history),
            "n_images_seen_": sum(row["images"] for row in net.history),
            "device_": torch.device(net.device),
        }
