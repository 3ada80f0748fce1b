"""The contract of a pretext task."""

import contextlib
import warnings
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.optim import Optimizer

from sklearn_ssl._utils._arguments import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, SHARE
from sklearn_ssl._utils._device import resolve_device
from sklearn_ssl._utils._docstrings import fill_docstring
from sklearn_ssl._utils._random import seeded
from sklearn_ssl.encoders import Encoder, make_encoder, pool_features, pooled_width
from sklearn_ssl.exceptions import CollapseWarning, PixelRangeWarning, UnavailableDeviceWarning
from sklearn_ssl.images import Images, PixelRange, complete_shape, read_images
from sklearn_ssl.metrics import rank_me
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.views import Views

__all__ = ["PretextLearner", "PretextTask"]


class PretextTask(nn.Module, ABC):
    """Views, heads and loss of a pretext method, on an encoder that it is given.

    All state lives in parameters and persistent buffers, so that it is saved and resumed. Random
    numbers come from torch's default generator on the images' device (the training loop seeds and
    restores it). :meth:`forward` leaves queues, banks and averages as they are, :meth:`after_step`
    moves them. A step never reads a value back from the device: no ``.item()``, no indexing by a
    mask, no tensor made on the CPU.

    Parameters
    ----------
    encoder : Encoder
        Kept as ``self.encoder``; features are read from this attribute after training.
    views : callable
        Takes images in [0, 1] and draws a view, or several, of each.
    """

    encoder: Any
    views: Callable[..., Any]
    n_images: int | None = None  # in the training set, for tasks that keep something of each

    def __init__(self, encoder: nn.Module, views: Callable[..., Any]):
        super().__init__()
        self.encoder = encoder
        self.views = views

    @abstractmethod
    def forward(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Compute the terms of the loss for one batch.

        Parameters
        ----------
        images : float Tensor of shape (n, c, h, w)
            Images with values in [0, 1], without augmentation.
        index : int64 Tensor of shape (n,)
            Positions of the images in the training set.

        Returns
        -------
        dict of scalar tensors
            ``"loss"``, which is minimized, and any other term worth a place in ``history_``.
        """

    def pair(self, images: Tensor) -> Tensor:
        """Two views of each image, (2n, c, h, w): all first ones, then all second ones."""
        return torch.cat([self.views(images, view) for view in (0, 1)])

    def after_step(self, progress: float | None) -> None:
        """Update what is not learned by gradient (averages, queues).

        ``progress`` is in (0, 1]. It is None where no end is known, as in ``partial_fit``: then
        schedules stay at their start, and what waits for a share of the training has waited.
        """


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


# arguments that may change between the fits of a warm start; the others are built in
_CHANGEABLE = {
    *("layer", "pool", "max_epochs", "batch_size", "lr", "weight_decay", "warmup", "optimizer"),
    *("precision", "device", "random_state", "warm_start", "callbacks", "verbose"),
}


_COLLAPSED = 1e-3  # feature spread below which all images look the same


@dataclass(kw_only=True, eq=False, repr=False)
class PretextLearner(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of all learners. A method says in :meth:`_make_task` what its task is."""

    encoder: str | Callable[..., nn.Module] = "small_resnet"
    weights: str | None = None
    layer: str | None = None
    pool: str | int | None = 3
    image_shape: tuple[int, ...] | None = None
    views: Views | None = None
    max_epochs: int = 50
    batch_size: int | None = None
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    optimizer: str | type = "adamw"
    precision: str = "auto"
    device: str | torch.device = "auto"
    random_state: int | np.random.RandomState | None = None
    warm_start: bool = False
    callbacks: list | None = None
    verbose: int = 0

    _usual_batch_size: ClassVar[int] = 128

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "encoder": [str, callable],
        "weights": [str, None],
        "layer": [str, None],
        "pool": [StrOptions({"avg", "max"}), COUNT, None],
        "image_shape": [tuple, list, None],
        "views": [Views, None],
        "max_epochs": [COUNT_OR_ZERO],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "lr": [POSITIVE],
        "weight_decay": [NOT_NEGATIVE],
        "warmup": [SHARE],
        "optimizer": [StrOptions(set(OPTIMIZERS)), type],
        "precision": [StrOptions({"auto", "bfloat16", "float32"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "callbacks": [list, None],
        "verbose": ["verbose"],
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Fill the shared parts of the docstring in."""
        super().__init_subclass__(**kwargs)
        fill_docstring(cls)

    @abstractmethod
    def _make_task(self, encoder: Encoder, n_images: int) -> PretextTask:
        """The task that trains ``encoder``; queues need not be longer than ``n_images``."""

    def _make_encoder(
        self, image_shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
    ) -> Encoder:
        return make_encoder(self.encoder, image_shape, mean, std, self.weights)

    def _make_views(self, size: Any = None, **recipe: Any) -> Views:
        """The user's views, or those of the method's recipe; ``size`` is for views without one."""
        views = Views(**recipe) if self.views is None else clone(self.views)
        if views.size is None:
            views.size = size
        return views

    # Fitting

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Pretrain the encoder on images.

        Parameters
        ----------
        X : array-like
            Images: an array of shape (n, pixels), (n, height, width) or (n, height, width,
            channels), a tensor of shape (n, channels, height, width), or a data frame of pixels.
        y : ignored
            For consistency with scikit-learn.
        X_unlabeled : array-like, optional
            More images to pretrain on, of the same shape and dtype. This is how a pipeline that is
            fitted to a few labeled images learns from many unlabeled ones. Cross-validation cuts
            it like ``X`` if it has as many rows, and passes it whole otherwise.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument or the images are not usable; the message says what is.
        DivergenceError
            If the loss becomes NaN or infinite.
        """
        return self._fit(X, X_unlabeled, epochs=self.max_epochs, continued=self.warm_start)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one more pass over these images, at a constant learning rate.

        The first call learns the value range and the normalization of the images; later ones have
        to come in the same range. A ``batch_size`` larger than the number of images is cut to it.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.
        y : ignored
            For consistency with scikit-learn.

        Returns
        -------
        self
        """
        return self._fit(X, None, epochs=1, continued=True, streamed=True)

    def _fit(
        self, X: Any, X_unlabeled: Any, *, epochs: int, continued: bool, streamed: bool = False
    ) -> Self:
        from sklearn_ssl.training import ProgressBar, SklearnCallbacks

        self._validate_params()
        if self.views is not None:
            self.views.validate()
        if isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer):
            raise TypeError(f"optimizer={self.optimizer!r} must be a class of torch.optim")
        continued = continued and self.__sklearn_is_fitted__()
        if continued:
            self._check_unchanged()
        with self._all_or_nothing():
            images = self._read_training_images(X, X_unlabeled, continued)
            if continued:
                self._check_kept(len(images))
            batch_size = self._batch_size(len(images), cut=streamed)
            device = resolve_device(self.device)
            with seeded(self._draw_seed(continued), device):
                if continued:
                    net = self.net_.copied()  # a failure must not touch what is fitted
                    net.set_training(self._training_options(), batch_size, device)
                else:
                    net = self._build_net(images, batch_size, device)
                    self._check_layer(net.encoder)
                epochs_before = len(net.history)

                def fitted() -> dict[str, Any]:
                    return self._fitted_attributes(net, images)

                bar = ProgressBar(type(self).__name__, shown=bool(self.verbose))
                watchers: list[Any] = [bar]
                if hasattr(self, "_init_callback_context") and not streamed:
                    watchers.append(SklearnCallbacks(self, X, epochs, fitted))
                with contextlib.closing(bar):
                    net.train(images, epochs, constant_lr=streamed, watchers=watchers)
            self.__dict__.update(fitted())
        self._warn_if_collapsed(trained=len(net.history) > epochs_before)
        return self

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the learner as it was if fitting fails."""
        before = {name: value for name, value in vars(self).items() if name.endswith("_")}
        try:
            yield
        except BaseException:
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            self.__dict__.update(before)
            raise

    def _built_in(self) -> dict[str, Any]:
        """The arguments that the network and its task were built from."""
        params = self.get_params(deep=True)
        nested = {name.partition("__")[0] for name in params if "__" in name}
        return {
            name: value
            for name, value in params.items()
            if _CHANGEABLE.isdisjoint(name.split("__")) and name not in nested
        }

    def _check_unchanged(self) -> None:
        before, now = self._built_in_, self._built_in()
        changed = [name for name in before | now if before.get(name, "") != now.get(name, "")]
        if changed:
            raise ValueError(
                f"{', '.join(changed)} changed since the encoder was built, and cannot change in a "
                "continued fit; fit anew with warm_start=False"
            )

    def _read_training_images(self, X: Any, X_unlabeled: Any, continued: bool) -> Images:
        shape = self.image_shape_ if continued else None
        images = read_images(X, estimator=self, image_shape=self.image_shape, fitted_shape=shape)
        if continued and images.is_uint8 != self._fitted_uint8_:
            first = "uint8" if self._fitted_uint8_ else "another type than uint8"
            raise ValueError(
                f"X has dtype {images.dtype}, but the images of the first fit had {first}; give "
                "them in the same range of values to go on, or fit anew with warm_start=False"
            )
        if X_unlabeled is None:
            return images
        more = read_images(X_unlabeled, estimator=self, fitted_shape=images.shape, min_images=1)
        if more.is_uint8 != images.is_uint8:
            raise ValueError(
                f"X has dtype {images.dtype} and X_unlabeled {more.dtype}; give both in one range "
                "of values, both as uint8 or both as floats"
            )
        return Images(*images.arrays, *more.arrays, shape=images.shape)

    def _check_kept(self, n_images: int) -> None:
        kept = self.net_.module_.task.n_images
        if kept is not None and kept != n_images:
            raise ValueError(
                f"{type(self).__name__} keeps something of each image of the first fit, which had "
                f"{kept}; a continued fit needs the same ones in their order, not {n_images}"
            )

    def _batch_size(self, n_images: int, cut: bool) -> int:
        if self.batch_size is None:
            return min(self._usual_batch_size, max(2, n_images // 4))
        if self.batch_size > n_images and not cut:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the number of images, {n_images}; "
                "give a smaller one, or None to have it chosen"
            )
        return min(self.batch_size, n_images)

    def _draw_seed(self, continued: bool) -> int:
        if self.random_state is None:  # numpy's global generator is not ours to advance
            return int(np.random.default_rng().integers(2**31))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return seed + (self.n_epochs_ if continued else 0)

    def _build_net(self, images: Images, batch_size: int, device: torch.device) -> "PretextNet":
        from sklearn_ssl.training import PretextModule, PretextNet

        sample = images.sample()
        pixels = PixelRange.of(sample)
        values = pixels(sample)
        mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3))
        std = torch.where(std > 0, std, 1.0)
        encoder = self._make_encoder(images.shape, mean.tolist(), std.tolist())
        task = self._make_task(encoder, len(images))
        net = PretextNet(
            PretextModule(pixels, task),
            batch_size=batch_size,
            device=str(device),
            **self._training_options(),
        )
        return net.initialize()

    def _training_options(self) -> dict[str, Any]:
        names = ("optimizer", "lr", "weight_decay", "warmup", "precision", "callbacks")
        return {name: getattr(self, name) for name in names}

    def _fitted_attributes(self, net: "PretextNet", images: Images) -> dict[str, Any]:
        history = [{k: v for k, v in row.items() if k != "batches"} for row in net.history]
        return {
            "net_": net,
            "_built_in_": self._built_in(),
            "history_": history,
            "n_epochs_": len(history),
            "image_shape_": images.shape,
            "_fitted_uint8_": images.is_uint8,
            "device_": torch.device(net.device),
        }

    def _warn_if_collapsed(self, trained: bool) -> None:
        if trained and (spread := self.history_[-1]["feature_spread"]) < _COLLAPSED:
            warnings.warn(
                f"the features of {type(self).__name__} are nearly the same for all images (spread "
                f"{spread:.1e}): the representation has collapsed. Try a smaller lr, a larger "
                "batch_size, or another random_state",
                CollapseWarning,
                stacklevel=4,
            )

    # Features

    def transform(self, X: Any) -> np.ndarray:
        """Features of ``layer``, pooled by ``pool``.

        Parameters
        ----------
        X : array-like
            Images of the shape that was fitted, in any form that :meth:`fit` takes.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
        """
        images = self._read_images(X)
        layer = self._check_layer(self.encoder_)

        def features(pixels: torch.Tensor) -> torch.Tensor:
            return pool_features(self.encoder_(pixels, layer).float(), self.pool)

        return self.net_.map(images, features)

    def _read_images(self, X: Any) -> Images:
        """Images to apply the fitted learner to."""
        check_is_fitted(self)
        self._validate_params()
        images = read_images(X, estimator=self, fitted_shape=self.image_shape_, min_images=1)
        message = ""
        if self._fitted_uint8_ and not images.is_uint8 and images.sample().max() <= 1:
            message = "uint8 images, and these have no value above 1, which is nearly black"
        elif images.is_uint8 and not self._fitted_uint8_ and self.net_.module_.pixels.high <= 1:
            message = "images with no value above 1, and these are uint8, which is nearly white"
        if message:
            message = f"the learner was fitted to {message}; give them in the same range"
            warnings.warn(message, PixelRangeWarning, stacklevel=4)
        return images

    def score(self, X: Any, y: Any = None) -> float:
        """Effective rank of the features (RankMe), which needs no labels; higher is better.

        Parameters
        ----------
        X : array-like
            Images.
        y : ignored

        Returns
        -------
        float
            Between 1 and the number of features. Compare learners on the same images and with the
            same number of features.

        References
        ----------
        Garrido et al. (2023), RankMe: Assessing the Downstream Performance of Pretrained
        Self-Supervised Representations by Their Rank.
        """
        return rank_me(torch.as_tensor(np.asarray(self.transform(X))))

    def encoder_layers(
        self, image_shape: tuple[int, ...] | None = None
    ) -> dict[str, tuple[int, int, int]]:
        """Names of the encoder's layers, and the shape of their feature maps.

        Parameters
        ----------
        image_shape : tuple of int, optional
            Height, width and channels of the images; by default those that were fitted, else the
            argument ``image_shape``. No fit is needed.

        Returns
        -------
        dict of str to tuple of int
            (channels, height, width) of each layer's map, from input to output.

        Examples
        --------
        >>> from sklearn_ssl import SimCLR
        >>> for name, shape in SimCLR().encoder_layers((32, 32, 3)).items():
        ...     print(name, shape)
        stem (32, 32, 32)
        layer1 (32, 32, 32)
        layer2 (64, 16, 16)
        layer3 (128, 8, 8)
        layer4 (256, 4, 4)
        """
        if image_shape is None and self.__sklearn_is_fitted__():
            return dict(self.encoder_.layers)
        shape = complete_shape(image_shape or self.image_shape or ())
        with seeded(0, torch.device("cpu")):
            return dict(self._make_encoder(shape, [0.0] * shape[2], [1.0] * shape[2]).layers)

    def _check_layer(self, encoder: Encoder) -> str:
        if self.layer is None:
            return encoder.default_layer
        if self.layer not in encoder.layers:
            raise ValueError(
                f"layer={self.layer!r} is not a layer of encoder={self.encoder!r}, which has "
                f"{', '.join(encoder.layers)}"
            )
        return self.layer

    @property
    def encoder_(self) -> Encoder:
        """The trained encoder."""
        return self.net_.encoder

    @property
    def _n_features_out(self) -> int:
        return pooled_width(self.encoder_.layers[self._check_layer(self.encoder_)], self.pool)

    # What scikit-learn asks for

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go to the device that was asked for, or with a warning to the CPU if it is missing."""
        super().__setstate__(state)
        if not self.__sklearn_is_fitted__():
            return
        try:
            self.device_ = resolve_device(self.device)
        except ValueError as error:
            warnings.warn(f"{error}; using the CPU", UnavailableDeviceWarning, stacklevel=2)
            self.device_ = torch.device("cpu")
        self.net_.move_to(self.device_)
