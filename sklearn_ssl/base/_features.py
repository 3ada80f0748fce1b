"""Features of a fitted learner, their names, and a measure of their quality."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_ssl._utils._arguments import check_arguments, plain
from sklearn_ssl._utils._isolation import isolated
from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.base._memory import is_on, kept_features
from sklearn_ssl.encoders import Encoder, Pair, pooled_width
from sklearn_ssl.images import Images, complete_shape
from sklearn_ssl.inference import apply_checked, read_for
from sklearn_ssl.metrics import rank_me

__all__ = ["FeaturesMixin"]


class FeaturesMixin(TransformerMixin):  # which gives what transform returns other forms
    """Mixin for ``transform`` and ``score``, on the layer that is asked for."""

    _reading: Any
    _validate_params: Any
    _plainly: Any
    __sklearn_is_fitted__: Any
    encoder: Any
    layer: Any
    memory: Any
    mirror: Any
    pool: Any
    _parameter_constraints: Any
    image_shape: Any
    channel_order: Any
    net_: Any
    image_shape_: Any

    @property
    def encoder_(self) -> Any:
        """The trained encoder."""
        check_is_fitted(self)
        return self.net_.encoder

    def transform(self, X: Any) -> np.ndarray:
        """Compute the features of ``layer``, pooled by ``pool``.

        Parameters
        ----------
        X : array-like
            Images of the shape that was fitted, in any form that :meth:`fit` takes.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            With ``on_error="skip"``, NaN in the rows of files that cannot be read.

        Raises
        ------
        ValueError, TypeError
            If the images are not usable.
        ImageReadError
            If a file cannot be read; an OSError.
        """
        return self._features(self._read_images(X), self._wanted(self.encoder_))

    def _features(self, images: Images, wanted: list[Pair]) -> np.ndarray:
        """Return features that are kept in ``memory``, or compute them."""
        if is_on(self.memory):
            return kept_features(self, images, wanted, functools.partial(self._encode, images))
        return self._encode(images, wanted)

    def _encode(
        self,
        images: Images,
        wanted: list[Pair],
        finish: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Compute features (n, d) of layers and their pools, side by side, in one pass."""
        encoder, mirror = self.encoder_, self.mirror

        def features(pixels: Tensor) -> Tensor:
            return encoder.features(pixels, wanted, mirror)

        return self._apply(features, images, finish=finish)

    def _read_images(self, X: Any, broken: str = "blank") -> Images:
        """Read images to apply the fitted learner to; ``broken`` as in :class:`Reading`."""
        check_is_fitted(self)
        self._validate_params()
        return read_for(
            self.net_,
            X,
            estimator=self,
            channel_order=self.channel_order,
            reading=self._reading(broken),
        )

    def _apply(
        self,
        function: Callable[..., Tensor],
        images: Images,
        *arguments: np.ndarray,
        finish: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Apply a function of images to all of them, with the fitted net."""
        return apply_checked(self.net_, function, images, *arguments, finish=finish)

    def score(self, X: Any, y: Any = None) -> float:
        """Compute the effective rank of the features (RankMe), which needs no labels.

        Use it to compare layers and lengths of training of one learner, where the number of
        features is the same: higher is better. It does not tell which pretext task is better.

        Parameters
        ----------
        X : array-like
            Images.
        y : ignored

        Returns
        -------
        float
            Between 1 and the number of features.

        References
        ----------
        Garrido et al. (2023), RankMe: Assessing the Downstream Performance of Pretrained
        Self-Supervised Representations by Their Rank.
        """
        images, rows, n_seen = self._read_images(X), list[Tensor](), 0

        def keep(features: np.ndarray) -> np.ndarray:
            nonlocal n_seen
            skipped = images.skipped
            read = [i for i in range(len(features)) if n_seen + i not in skipped]
            n_seen += len(features)
            rows.append(torch.from_numpy(features[read]).double())
            if sum(map(len, rows)) > 2 * features.shape[1]:  # R has the same singular values
                rows[:] = [torch.linalg.qr(torch.cat(rows), mode="r").R]
            return features[:, :0]

        self._encode(images, self._wanted(self.encoder_), keep)
        return rank_me(torch.cat(rows))

    def encoder_layers(
        self, image_shape: tuple[int, ...] | None = None
    ) -> dict[str, tuple[int, int, int]]:
        """Return the names of the encoder's layers, and the shapes of their feature maps.

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
        with isolated(torch.device("cpu"), seed=0):
            made = self._plainly()._make_encoder(shape, [0.0] * shape[2], [1.0] * shape[2])
        return dict(made.layers)

    def _wanted(self, encoder: Encoder) -> list[Pair]:
        """Return the layers that are asked for, each with its pool."""
        return self._pairs_of(encoder, plain(self.layer), plain(self.pool))

    def _pairs_of(self, encoder: Encoder, layer: Any, pool: Any) -> list[Pair]:
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
                f"layer={layer!r}: {', '.join(map(repr, unknown)) or 'none'} is not a layer of "
                f"{name}, which has {', '.join(encoder.layers)}.{hint}"
            )
        if not isinstance(pool, (list, tuple)):
            pool = [pool] * len(layers)
        if len(pool) != len(layers):
            raise ValueError(
                f"pool={pool!r} has {len(pool)} entries for {len(layers)} layers; give one "
                "for all, or one for each"
            )
        for one in pool:
            check_arguments(self._parameter_constraints, {"pool": one}, type(self).__name__)
        return list(zip(layers, pool, strict=True))

    @property
    def _n_features_out(self) -> int:
        return sum(self._widths())

    def _widths(self) -> list[int]:
        self._validate_params()
        layers = self.encoder_.layers
        return [pooled_width(layers[layer], pool) for layer, pool in self._wanted(self.encoder_)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of features: ``simclr0``, or ``simclr_layer2_0`` for several layers.

        Parameters
        ----------
        input_features : array-like of str, optional
            Only compared with what was seen in :meth:`fit`: one name for each pixel, or the name of
            the column that holds the images.

        Returns
        -------
        ndarray of str, as objects
        """
        if not hasattr(self, "feature_names_in_") and np.size(input_features) == 1:
            input_features = None  # a column of files, which is no pixel
        names = super().get_feature_names_out(input_features)
        if self.layer is None or (isinstance(self.layer, str) and self.layer != "all"):
            return names
        prefix, numbers = type(self).__name__.lower(), Counter[str]()
        found = []
        for (layer, _), width in zip(self._wanted(self.encoder_), self._widths(), strict=True):
            first = numbers[layer]
            found += [f"{prefix}_{layer}_{i}" for i in range(first, first + width)]
            numbers[layer] += width
        return np.asarray(found, dtype=object)
