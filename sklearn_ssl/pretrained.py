"""Pretrained networks as they are, without any training."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl.base import FrozenTransformer
from sklearn_ssl.base._image_arguments import EncoderArguments, FeatureArguments, WeightsArguments

__all__ = ["PretrainedEncoder"]


def __dir__() -> list[str]:
    return __all__


class PretrainedEncoder(FeatureArguments, WeightsArguments, EncoderArguments, FrozenTransformer):
    """Features of a network with pretrained weights, which is not trained on.

    What others learned from millions of images is what a pretraining on your own has to beat. The
    network sees images as its weights expect them: standardized by the numbers that torchvision or
    timm give, and enlarged if they are smaller than those that it was trained on.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seeds the network where ``weights=None``: a random one, as a baseline.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        The network, a torch module that takes images in [0, 1].
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Where the network is.
    skipped_ : dict of int to str
        Rows whose files could not be read in :meth:`fit`, with ``on_error="skip"``.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of a data frame.

    See Also
    --------
    sklearn_ssl.Distillation : What a large network knows, learned by a small one.

    Notes
    -----
    A learner goes on from the same weights with ``encoder=`` and ``weights=`` of its own.

    References
    ----------
    .. [1] Kornblith, Shlens & Le (2019), Do Better ImageNet Models Transfer Better?,
       https://arxiv.org/abs/1805.08974

    Examples
    --------
    With ``encoder="resnet18", weights="DEFAULT"``, torchvision downloads the weights once. Here
    they are in a file:

    >>> import tempfile, torch, torchvision
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_ssl import PretrainedEncoder
    >>> X = [image[:256, :256] for image in load_sample_images().images]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "weights.pth")
    ...     torch.save(torchvision.models.mobilenet_v3_small().state_dict(), file)
    ...     frozen = PretrainedEncoder(encoder="mobilenet_v3_small", weights=file).fit(X)
    >>> frozen.set_params(layer="features.12", pool="avg").transform(X).shape
    (2, 576)
    """

    encoder: Any = "resnet18"
    weights: str | os.PathLike | None = "DEFAULT"
    input_size: str | int | Sequence[int] | None = "auto"
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    def _make_encoder(self, image_shape, mean, std):
        return self._make_network(image_shape, mean, std)
