"""Pretrained networks, used without further training."""

import copy
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from sklearn_ssl._utils._estimators import argument
from sklearn_ssl.base import FrozenTransformer, PretextLearner

_NETWORK = {"encoder", "weights", "input_size", "normalization"}


class PretrainedEncoder(FrozenTransformer, like=PretextLearner, only=_NETWORK):
    """Features of a frozen network with pretrained weights.

    Features learned from millions of images are the baseline that pretraining on your own images
    must beat. The network sees images as its weights expect them: standardized with the values that
    torchvision or timm specify, and enlarged if they are smaller than its training images.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed of the random network that ``weights=None`` uses, as a baseline.
    layer : str, list of str or None, default=None
        Layer whose features :meth:`transform` returns; see :meth:`encoder_layers`. ``None`` uses
        the last one, which is the best of a network that was trained on labels. The features of
        several layers, or of ``"all"``, are computed in one pass and concatenated.
    pool : {"avg", "max"}, int, None or list of them, default="avg"
        Pooling of a feature map to a vector: the mean or maximum over all positions, means over a
        grid of ``pool`` x ``pool`` cells, or ``None`` for the whole map. A list has one entry per
        layer. ``layer``, ``pool`` and ``mirror`` can be changed once it is fitted.
    encoder : str, class, callable or Module, default="resnet18"
        Network: the name of a torchvision model, ``"timm/NAME"``, or a class or function that
        builds one, which gets ``in_channels`` or ``image_shape`` if it has arguments of these
        names. A module is copied with the weights that it has; as nothing says what input these
        expect, images are standardized by their own statistics and keep their size, unless
        ``normalization`` and ``input_size`` are given.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        The network, a torch module that accepts images in [0, 1].
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Device of the network.
    skipped_ : dict of int to str
        Rows whose files :meth:`fit` could not read, and why, with ``on_error="skip"``.
    n_features_in_ : int
        Number of values per image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if ``X`` was a data frame.

    See Also
    --------
    sklearn_ssl.Distillation : Teach these features to a smaller network.

    Notes
    -----
    To train further from these weights, give ``encoder`` and ``weights`` to a learner.

    References
    ----------
    .. [1] Kornblith, Shlens & Le (2019), Do Better ImageNet Models Transfer Better?,
       https://arxiv.org/abs/1805.08974

    Examples
    --------
    With ``encoder="resnet18", weights="DEFAULT"``, torchvision downloads the weights once. Here
    they come from a file:

    >>> import tempfile, torch, torchvision
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_ssl import PretrainedEncoder
    >>> X = [image[:256, :256] for image in load_sample_images().images]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "weights.pth")
    ...     torch.save(torchvision.models.mobilenet_v3_small().state_dict(), file)
    ...     frozen = PretrainedEncoder(encoder="mobilenet_v3_small", weights=file).fit(X)
    >>> frozen.transform(X).shape
    (2, 576)
    """

    encoder: Any = "resnet18"
    weights: str | os.PathLike | None = "DEFAULT"
    input_size: str | int | Sequence[int] | None = "auto"
    pool: str | int | Sequence[str | int | None] | None = "avg"
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    def _make_encoder(self, image_shape, mean, std):
        if not isinstance(self.encoder, nn.Module):
            return self._make_network(image_shape, mean, std)
        used = copy.copy(self)
        used.encoder = functools.partial(copy.deepcopy, self.encoder)
        used.weights = None if self.weights == "DEFAULT" else self.weights
        return used._make_network(image_shape, mean, std)

    def _feature_spec_of(self, encoder, layer, pool):
        return super()._feature_spec_of(encoder, layer or encoder.last_layer, pool)
