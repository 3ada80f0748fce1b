"""Transformers whose encoder is not trained by a pretext task."""

import os
from typing import Any, Self

import torch
from joblib import Memory

from sklearn_ssl._utils._estimators import all_or_nothing, argument
from sklearn_ssl._utils._torch import (
    OwnRandomNumbers,
    draw_seed,
    own_settings,
    resolve_device,
    threads_that_survive_a_fork,
)
from sklearn_ssl.base._learner import read_training_images
from sklearn_ssl.base._transformer import ImageTransformer
from sklearn_ssl.encoders import Encoder
from sklearn_ssl.images import Images, PixelRange, learn_pixels, refuse_images, warn_of_files
from sklearn_ssl.training import FrozenNet


class FrozenTransformer(ImageTransformer):
    """Base of transformers whose encoder is pretrained, or fitted without a pretext task."""

    memory: str | os.PathLike | Memory | None = argument(
        str,
        os.PathLike,
        Memory,
        None,
        default=None,
        changeable=True,
        writes=True,
        trains=False,
        doc="""str, path, joblib.Memory or None
Folder for a cache of features, shared by all processes; the features of the same images are
computed only once. ``joblib.Memory(folder).reduce_size(bytes_limit=...)`` deletes the least
recently used results.""",
    )

    random_state: Any = None

    @all_or_nothing
    def fit(self, X: Any, y: Any = None, *, X_unlabeled: Any = None) -> Self:
        """Check the images, learn their value range, and make the encoder.

        Parameters
        ----------
        X : array-like, or images in files
            Images, as for :meth:`PretextLearner.fit <sklearn_ssl.base.PretextLearner.fit>`.
        y : ignored
        X_unlabeled : array-like, optional
            More images, of the same shape and dtype.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument or the images are invalid; the message says what is valid.
        OSError
            If an image file or the weights cannot be read.
        """
        refuse_images(y, X)
        self._validate_params()
        images = read_training_images(self, X, X_unlabeled, continued=False)
        device = resolve_device(self.device)
        draws = OwnRandomNumbers(device, draw_seed(self.random_state))
        with threads_that_survive_a_fork(), own_settings(device), draws, torch.no_grad():
            pixels, mean, std = learn_pixels(images)
            plain_self = self._with_python_scalars()
            encoder = plain_self._make_encoder(images.shape, mean, std)
            net = plain_self._assemble(pixels, encoder, None, device)
            self._feature_spec(net.encoder)
            plain_self._learn(net, images)
        self.__dict__.update(
            self._net_attributes(net), image_shape_=images.shape, skipped_=images.skipped
        )
        warn_of_files(images, "were left out; see skipped_")
        return self

    def _assemble(
        self, pixels: PixelRange, encoder: Encoder, batch_size: None, device: torch.device
    ) -> FrozenNet:
        return FrozenNet(pixels, encoder, device, self.precision, self.deterministic)

    def _learn(self, net: FrozenNet, images: Images) -> None:
        """Fit the encoder to the images; by default, do nothing."""

    def _net_attributes(self, net: FrozenNet) -> dict[str, Any]:
        return {"net_": net, "device_": torch.device(net.device)}
