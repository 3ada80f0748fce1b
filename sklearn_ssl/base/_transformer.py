"""Base of image transformers: they read images, apply the network and name the features."""

import contextlib
import functools
import os
from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import check_arguments, fill_docstring, plain
from sklearn_ssl._utils._export import write_onnx
from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import (
    autocast,
    deterministic_kernels,
    evaluation,
    freed_memory_reused,
    isolated,
    own_settings,
    threads_that_survive_a_fork,
)
from sklearn_ssl.base import _persistence
from sklearn_ssl.base._arguments import ImageArguments
from sklearn_ssl.base._cache import cached_features
from sklearn_ssl.encoders import BackboneEncoder, Encoder, FeatureSpec, make_encoder, pooled_width
from sklearn_ssl.images import Extremes, Images, complete_shape, read_images, warn_of_files
from sklearn_ssl.metrics import rank_me

_FILES_AT_ONCE = 128
_SMALL_CHUNKS = (8, 64)  # of images, for a few of them
_same_bits: WeakKeyDictionary[Any, dict[Any, bool]] = WeakKeyDictionary()


class ImageTransformer(
    ImageArguments,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of learners, and of transformers whose encoder is frozen.

    In the docstring of a subclass, the placeholders ``<shared parameters>`` and ``<attributes>``
    are replaced by the shared text.
    """

    net_: ClassVar[Any]  # contains pixel scaling and encoder; its class depends on the subclass
    image_shape_: ClassVar[Any]

    _filled: ClassVar[bool] = True  # False while the encoder is made only to restore saved weights
    _saved_attributes: ClassVar[tuple[str, ...]] = ("image_shape_", "n_features_in_", "skipped_")

    # Links in scikit-learn's HTML representation
    _doc_link_module = "sklearn_ssl"
    _doc_link_template = "https://sklearn-ssl.readthedocs.io/stable/{estimator_name}.html"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set up the declared arguments, and fill in the shared parts of the docstring."""
        super().__init_subclass__(**kwargs)
        fill_docstring(cls)

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"estimator_name": type(self).__name__}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    # The encoder

    @abstractmethod
    def _make_encoder(
        self, image_shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
    ) -> Encoder:
        """Make the encoder for images of a shape, with the given channel statistics."""

    def _make_network(
        self: Any,
        image_shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        **options: Any,
    ) -> BackboneEncoder:
        """Make the network that the ``encoder`` argument names, for images of a shape."""
        options = {
            "input_size": plain(self.input_size),
            "normalization": plain(self.normalization),
            "filled": self._filled,
            **options,
        }
        return make_encoder(self.encoder, image_shape, mean, std, self.weights, **options)

    def _with_python_scalars(self) -> Self:
        """Return an unfitted copy whose NumPy scalar arguments are Python numbers."""
        return type(self)(**{name: plain(getattr(self, name)) for name in self._arguments})

    @property
    def encoder_(self) -> Any:
        """Fitted encoder."""
        check_is_fitted(self)
        return self.net_.encoder

    def encoder_layers(
        self, image_shape: tuple[int, ...] | None = None
    ) -> dict[str, tuple[int, int, int]]:
        """Return the names of the encoder's layers, and the shapes of their feature maps.

        Parameters
        ----------
        image_shape : tuple of int, optional
            Height, width and channels of the images. By default, the shape seen in the fit, or the
            argument ``image_shape`` before a fit.

        Returns
        -------
        dict of str to tuple of int
            Shape (channels, height, width) of each layer's map, from input to output.

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
        with isolated(torch.device("cpu"), seed=0):
            made = self._with_python_scalars()._make_encoder(
                shape, [0.0] * shape[2], [1.0] * shape[2]
            )
        return dict(made.layers)

    # Images

    def _reading(self, broken: str) -> dict[str, Any]:
        """Return options for reading files; ``broken`` applies if unreadable ones are skipped."""
        broken = broken if self.on_error == "skip" else "raise"
        options = {"n_jobs": plain(self.n_jobs), "pages": plain(self.pages), "resize": self.resize}
        return {**options, "broken": broken, "cache": self.decoded_cache}

    def _read_images(self, X: Any, broken: str = "blank") -> Images:
        """Read images to apply the fitted encoder to; ``broken`` is for files."""
        check_is_fitted(self)
        self._validate_params()
        options: dict[str, Any] = {"channel_order": self.channel_order, "estimator": self}
        return read_for(self.net_, X, reading=self._reading(broken), **options)

    # Features

    def transform(self, X: Any) -> np.ndarray:
        """Compute the features of ``layer``, pooled by ``pool``.

        Parameters
        ----------
        X : array-like
            Images of the shape seen in :meth:`fit`, in any form that it accepts.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            Features; with ``on_error="skip"``, rows of files that cannot be read are NaN.

        Raises
        ------
        ValueError, TypeError
            If the images are invalid.
        ImageReadError
            If a file cannot be read; a subclass of OSError.
        """
        return self._features(self._read_images(X), self._feature_spec(self.encoder_))

    def _features(self, images: Images, spec: FeatureSpec) -> np.ndarray:
        """Return features from the cache, or compute them."""
        if self.memory is None:
            return self._encode(images, spec)
        return cached_features(self, images, spec, functools.partial(self._encode, images))

    def _encode(
        self,
        images: Images,
        spec: FeatureSpec,
        finish: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Compute the concatenated features (n, d) of layers and their pools, in one pass."""
        encoder, mirror = self.encoder_, self.mirror

        def features(pixels: Tensor) -> Tensor:
            return encoder.features(pixels, spec, mirror)

        return apply(self.net_, features, images, finish=finish, shown_by=(features, spec, mirror))

    def feature_maps(self, X: Any) -> np.ndarray:
        """Compute the feature maps of ``layer``, without pooling: features for each position.

        Parameters
        ----------
        X : array-like
            Images of the shape seen in :meth:`fit`, in any form that it accepts.

        Returns
        -------
        ndarray of shape (n, rows, columns, d), float32
            Maps; those of several layers are enlarged to the finest of them, bilinearly, and
            concatenated. With ``mirror``, they are averaged over an image and its mirror image.
            With ``on_error="skip"``, maps of files that cannot be read are NaN.

        Raises
        ------
        ValueError, TypeError
            If the images are invalid.
        ImageReadError
            If a file cannot be read; a subclass of OSError.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_ssl import SimCLR
        >>> X = load_digits().images[:64]
        >>> ssl = SimCLR(max_epochs=1, layer=["layer1", "layer2"], random_state=0).fit(X)
        >>> ssl.feature_maps(X).shape
        (64, 8, 8, 96)
        """
        images, encoder, mirror = self._read_images(X), self.encoder_, self.mirror
        layers = [layer for layer, _ in self._feature_spec(encoder)]
        shapes = [encoder.layers[layer] for layer in layers]
        grid = max(rows for _, rows, _ in shapes), max(columns for *_, columns in shapes)

        def flat(pixels: Tensor) -> Tensor:
            maps = encoder.maps(pixels, *layers)
            if mirror:
                turned = encoder.maps(pixels.flip(3), *layers)
                maps = [(a + b.flip(3)) / 2 for a, b in zip(maps, turned, strict=True)]
            resized = [F.interpolate(m.float(), grid, mode="bilinear") for m in maps]
            return torch.cat(resized, 1).permute(0, 2, 3, 1).flatten(1)

        return apply(self.net_, flat, images).reshape(len(images), *grid, -1)

    def _feature_spec(self, encoder: Encoder) -> FeatureSpec:
        """Return the layers that ``layer`` selects, each with its ``pool``."""
        return self._feature_spec_of(encoder, plain(self.layer), plain(self.pool))

    def _feature_spec_of(self, encoder: Encoder, layer: Any, pool: Any) -> FeatureSpec:
        if layer is None:
            layer = encoder.default_layer
        if layer == "all" and layer not in encoder.layers:
            layer = list(encoder.layers)
        layers = list(layer) if isinstance(layer, (list, tuple)) else [layer]
        unknown = [name for name in layers if name not in encoder.layers]
        if unknown or not layers:
            name = f"encoder={self.encoder!r}" if hasattr(self, "encoder") else type(self).__name__
            hint = did_you_mean(unknown[0], encoder.layers) if unknown else ""
            raise ValueError(
                f"layer={layer!r}: {', '.join(map(repr, unknown)) or 'an empty list'} is not a "
                f"layer of {name}; its layers are {', '.join(encoder.layers)}.{hint}"
            )
        if not isinstance(pool, (list, tuple)):
            pool = [pool] * len(layers)
        if len(pool) != len(layers):
            raise ValueError(
                f"pool={pool!r} has {len(pool)} entries for {len(layers)} layers; give one value "
                "for all layers, or one per layer"
            )
        for one in pool:
            check_arguments(self._parameter_constraints, {"pool": one}, type(self).__name__)
        return list(zip(layers, pool, strict=True))

    def score(self, X: Any, y: Any = None) -> float:
        """Compute the effective rank of the features (RankMe), which needs no labels.

        Use it to compare settings or training lengths of one learner at one layer: higher is
        better. It cannot rank layers, nor different pretext tasks.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        y : ignored

        Returns
        -------
        float
            Effective rank, between 1 and the number of features.

        References
        ----------
        Garrido et al. (2023), RankMe: Assessing the Downstream Performance of Pretrained
        Self-Supervised Representations by Their Rank.
        """
        images, rows, n_seen = self._read_images(X), list[Tensor](), 0

        def reduce(features: np.ndarray) -> np.ndarray:
            nonlocal n_seen
            skipped = images.skipped
            read = [i for i in range(len(features)) if n_seen + i not in skipped]
            n_seen += len(features)
            rows.append(torch.from_numpy(features[read]).double())
            if sum(map(len, rows)) > 2 * features.shape[1]:  # R has the same singular values
                rows[:] = [torch.linalg.qr(torch.cat(rows), mode="r").R]
            return features[:, :0]

        self._encode(images, self._feature_spec(self.encoder_), reduce)
        return rank_me(torch.cat(rows))

    # Names of features

    @property
    def _n_features_out(self) -> int:
        return sum(self._widths())

    def _widths(self) -> list[int]:
        self._validate_params()
        layers = self.encoder_.layers
        return [
            pooled_width(layers[layer], pool) for layer, pool in self._feature_spec(self.encoder_)
        ]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the feature names: ``simclr0``, or ``simclr_layer2_0`` for several layers.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names to check against those seen in :meth:`fit`, one per pixel, or the name of the
            column of images; not used otherwise.

        Returns
        -------
        ndarray of str, as objects
        """
        if not hasattr(self, "feature_names_in_") and np.size(input_features) == 1:
            input_features = None  # a column of files, not of pixels
        names = super().get_feature_names_out(input_features)
        if self.layer is None or (isinstance(self.layer, str) and self.layer != "all"):
            return names
        prefix, numbers = type(self).__name__.lower(), Counter[str]()
        found = []
        for (layer, _), width in zip(
            self._feature_spec(self.encoder_), self._widths(), strict=True
        ):
            first = numbers[layer]
            found += [f"{prefix}_{layer}_{i}" for i in range(first, first + width)]
            numbers[layer] += width
        return np.asarray(found, dtype=object)

    # Files, and torch modules

    @abstractmethod
    def _assemble(self, pixels: Any, encoder: Any, batch_size: Any, device: torch.device) -> Any:
        """Make the net from its pixel scaling and encoder."""

    @abstractmethod
    def _net_attributes(self, net: Any) -> dict[str, Any]:
        """Return the fitted attributes derived from a net."""

    def _validate(self) -> None:
        """Check the arguments, and anything else that can be checked before reading images."""
        self._validate_params()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Move to the requested device, or to the CPU with a warning if it is not available."""
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            _persistence.settle(self)

    _state, _restore = _persistence.state_of, _persistence.restore
    save = SavedMixin.save

    def to_torch(self) -> nn.Module:
        """Return a pure torch module that computes the features of ``layer``, pooled by ``pool``.

        The module is a copy, on the CPU, in evaluation mode and float32, and has no hooks. It can
        be traced and exported (``torch.export``) if the encoder is from this package, torchvision
        or timm, or an ``nn.Sequential``.

        Returns
        -------
        nn.Module
            Module that takes pixels (n, channels, height, width) of any dtype, in the range seen in
            the fit, and returns features (n, n_features_out), float32.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_ssl import SimCLR
        >>> X = load_digits().images[:64]
        >>> ssl = SimCLR(max_epochs=1, random_state=0, precision="float32").fit(X)
        >>> features = ssl.to_torch()(torch.from_numpy(X)[:, None])
        >>> torch.allclose(features, torch.from_numpy(ssl.transform(X)), atol=1e-5)
        True
        """
        spec = self._feature_spec(self.encoder_)
        with own_settings(torch.device("cpu")):
            return self._extractor(spec, self.mirror)

    def _extractor(self, spec: FeatureSpec, mirror: bool, size: Any = None) -> nn.Module:
        pixels, encoder = self.net_.module_.pixels, self.encoder_
        return _persistence.FeatureExtractor(pixels, encoder, spec, mirror, size)

    def export_onnx(self, path: str | os.PathLike) -> None:
        """Write the module from :meth:`to_torch` as an ONNX model, for any number of images.

        The input is named ``pixels``, and is uint8 if the learner was fitted to uint8, else
        float32. The output is named ``features``.

        Parameters
        ----------
        path : str or path
            File to write; its folder is created if needed.

        Raises
        ------
        ImportError
            If ONNX is not installed: ``pip install 'sklearn-ssl[onnx]'``.
        """
        write_onnx(self.to_torch(), path, self._example(), "pixels", "features")

    def _example(self) -> Tensor:
        """Return two blank images in the format that :meth:`to_torch` expects."""
        height, width, channels = self.image_shape_
        uint8 = self.net_.module_.pixels.dtype == "uint8"
        dtype = torch.uint8 if uint8 else torch.float32
        return torch.zeros(2, channels, height, width, dtype=dtype)

    def backbone_state_dict(self) -> dict[str, Tensor]:
        """Return the trained network's weights; torchvision and timm models keep their names.

        Returns
        -------
        dict of str to Tensor
            Weights for ``load_state_dict`` of the network without its classifier: after
            ``model.fc = nn.Identity()`` in torchvision, or with ``num_classes=0`` in timm.

        Raises
        ------
        ValueError
            For methods whose encoder consists of several networks, or encodes patches.
        """
        return _persistence.backbone_state_dict(self)


def read_for(
    net: Any,
    X: Any,
    *,
    reading: dict[str, Any],
    channel_order: str,
    estimator: BaseEstimator | None = None,
) -> Images:
    """Read images for a fitted net, with the shape, dtype and origin of its training images.

    Parameters
    ----------
    net : PretextNet or FrozenNet
    X : array-like, or images in files
    reading : dict
        How files are read.
    channel_order : {"auto", "first", "last"}
    estimator : BaseEstimator, optional
        Estimator whose number and names of features must match those of X.
    """
    pixels = net.module_.pixels
    images = read_images(
        X,
        estimator=BaseEstimator() if estimator is None else estimator,
        channel_order=channel_order,
        fitted_shape=net.encoder.image_shape,
        fitted_dtype=pixels.dtype,
        min_images=1,
        reading=reading,
    )
    images.origin = pixels.origin
    return images


def apply(
    net: Any,
    function: Callable[..., Tensor],
    images: Images,
    *arguments: np.ndarray,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
    checked: bool = True,
    shown_by: tuple[Any, ...] | None = None,
) -> np.ndarray:
    """Apply a function of images in [0, 1] to all images, and collect the results in an array.

    All chunks have the same size, the last one padded, and the network is in evaluation mode, so
    the result for an image does not depend, bit for bit, on the other images. A few images are
    computed in a smaller chunk if that was shown to give the same bits. Warns if the value
    range differs from that of the fit, or if files cannot be read: their rows are NaN, or 0 in
    integer results.

    Parameters
    ----------
    net : PretextNet or FrozenNet
        Net that scales the pixels; the function runs on its device, with its precision.
    function : callable
        Function of a float tensor (n, c, h, w), and of n rows of each of ``arguments``.
    images : Images
    *arguments : ndarray
        Further arguments of the function, with a row for each image.
    finish : callable, optional
        Function applied to the results of each chunk, as an array.
    checked : bool, default=True
        Raise an error for results that are not finite, and warn of images in another range.
    shown_by : tuple, optional
        Function of images by which chunks of different sizes may be compared, and what it depends
        on besides the net; without it, all chunks are large.

    Returns
    -------
    ndarray
        Results, with a row for each image.

    Raises
    ------
    ValueError
        If results are NaN or infinite.
    """
    device, pixels = torch.device(net.device), net.module_.pixels
    pixels_a_chunk = 2**16 if device.type == "cpu" else 2**22
    height, width, _ = images.shape
    size = min(max(1, pixels_a_chunk // (height * width)), 512)
    seen, results = Extremes(), np.empty(0)
    # the range of uint8 cannot differ
    watch = checked and not images.dtype == pixels.dtype == np.uint8
    with (
        threads_that_survive_a_fork(),
        own_settings(device),
        torch.no_grad(),
        deterministic_kernels(device, net.deterministic),
        evaluation(net.module_),
        freed_memory_reused() if len(images) > size else contextlib.nullcontext(),
    ):
        if shown_by is not None and len(images) <= max(_SMALL_CHUNKS):
            with autocast(device, net.precision):
                size = _small_chunk(net, *shown_by, images=images, size=size)
        for start, batch in zip(range(0, len(images), size), _chunks(images, size), strict=True):
            stop = min(start + size, len(images))
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            more = [torch.from_numpy(argument[rows]).to(device) for argument in arguments]
            skipped = images.skipped
            read = [row - start for row in range(start, stop) if row not in skipped]
            with autocast(device, net.precision):
                values = pixels(batch.to(device))
                if watch and read:
                    seen.add(values[: stop - start] if len(read) == stop - start else values[read])
                result = function(values, *more)
            chunk = result[: stop - start].cpu().numpy()
            if checked:
                _check_finite(chunk, images, pixels, seen if watch else None)
            if finish is not None:
                chunk = finish(chunk)
            if start == 0:
                results = np.empty((len(images), *chunk.shape[1:]), chunk.dtype)
            results[start:stop] = chunk
    floats = results.dtype.kind == "f"
    if unread := list(images.skipped):
        results[unread] = np.nan if floats else 0
    warn_of_files(images, "are NaN in the result" if floats else "are blank in the result")
    if watch and seen.n:
        pixels.compare(seen, images.dtype)
    return results


def _small_chunk(
    net: Any, function: Callable[[Tensor], Tensor], *depends: Any, images: Images, size: int
) -> int:
    """Return the smallest chunk for a few images that gives the same bits as one of ``size``.

    Sums have another order for some numbers of images: with 8 or more it is usually the same, with
    one it is not. So this is tried with noise, once for each net, layer and number of threads.
    """
    height, width, channels = images.shape
    noise = None
    for small in (chunk for chunk in _SMALL_CHUNKS if len(images) <= chunk < size):
        known = _same_bits.setdefault(net, {})
        key = (*map(str, depends), small, size, torch.get_num_threads(), net.precision, net.device)
        if key not in known:
            if noise is None:
                generator = torch.Generator().manual_seed(0)
                noise = torch.rand((size, height, width, channels), generator=generator)
                noise = noise.permute(0, 3, 1, 2).to(net.device)
                large = function(noise)
            known[key] = torch.equal(function(noise[:small]), large[:small])
        if known[key]:
            return small
    return size


def _chunks(images: Images, size: int) -> Iterator[Tensor]:
    """Yield all images, ``size`` at a time; a smaller last chunk is padded with the last image.

    Files are read in larger blocks, to keep all decoding threads busy.
    """
    n = len(images)
    at_once = size if images.in_memory else size * -(-_FILES_AT_ONCE // size)
    starts = range(0, n, at_once)

    def read(start: int) -> Tensor:
        return images.take(np.arange(start, min(start + at_once, n)))

    for block in images.read_ahead(read, starts):
        for chunk in block.split(size):
            if len(chunk) < size:
                filled = torch.arange(size).clamp(max=len(chunk) - 1)
                chunk = chunk.permute(0, 2, 3, 1)[filled].permute(0, 3, 1, 2)
            yield chunk


def _check_finite(results: np.ndarray, images: Images, pixels: Any, seen: Any) -> None:
    if np.isfinite(results).all():
        return
    found = ""
    if seen is not None:
        seen.check_finite()
        found = f", which has {pixels.describe(seen, images.dtype)}"
    raise ValueError(f"the network returns NaN or infinite values for X{found}")
