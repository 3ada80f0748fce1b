"""Arguments of the encoder and of the images, that all learners share."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import StrOptions
from torch import nn

from sklearn_ssl._utils._arguments import COUNT, DeclaredArguments, argument
from sklearn_ssl.views import Views

__all__ = ["EncoderArguments", "ImageArguments"]


class EncoderArguments(DeclaredArguments):
    """Arguments of the encoder and its features."""

    encoder: str | Callable[..., nn.Module] = argument(
        str,
        callable,
        default="small_resnet",
        doc="""str, class or callable
Network that is pretrained: ``"small_resnet"``, ``"small_vit"``, the name of a torchvision
classification model (``"resnet18"``), ``"timm/NAME"`` for a model of timm, or a class or function
that builds a module, ``functools.partial(Net, depth=3)`` for one. It is called with
``in_channels`` and ``image_shape`` if it takes arguments of these names.""",
    )
    weights: str | None = argument(
        str,
        None,
        default=None,
        doc="""str or None
Pretrained weights to continue from, by torchvision's names; ``"DEFAULT"`` takes the best ones, or
those that the name of a model of timm ends in. The first layer is adapted to the number of
channels.""",
    )
    layer: str | Sequence[str] | None = argument(
        str,
        list,
        tuple,
        None,
        default=None,
        changeable=True,
        trains=False,
        doc="""str, list of str or None
Layer whose features :meth:`transform` gives; see :meth:`encoder_layers`. ``None`` takes the last
stage but one, which mostly serves other tasks better than the last. Features of several layers, or
of ``"all"``, lie one beside the other, and are computed in one pass.""",
    )
    pool: str | int | Sequence[str | int | None] | None = argument(
        StrOptions({"avg", "max"}),
        COUNT,
        list,
        tuple,
        None,
        default=3,
        changeable=True,
        trains=False,
        doc="""{"avg", "max"}, int, None or list of them
How a feature map becomes a vector: its mean or maximum over positions, means over a grid of
``pool`` x ``pool`` cells, or all of it; one for all layers, or one for each. ``layer`` and ``pool``
can be changed on a fitted learner.""",
    )


class ImageArguments(DeclaredArguments):
    """Arguments of the images and their views."""

    image_shape: tuple[int, ...] | None = argument(
        tuple,
        list,
        None,
        default=None,
        doc="""tuple of int or None
Height and width, or height, width and channels, of the images in rows of a 2-D ``X``. ``None``
takes squares of one or three channels, else strips of height 1. Files are resized to cover height
and width, and cut around their middle; ``None`` takes the size that all have, up to 256 pixels a
side, else 96 x 96.""",
    )
    channel_order: str = argument(
        StrOptions({"auto", "first", "last"}),
        default="auto",
        doc="""{"auto", "first", "last"}
Whether ``X`` has the channels before height and width, as planes, or after them. ``"auto"`` takes
them first in torch tensors (n, channels, height, width), and last in arrays and in rows of a 2-D
``X``. ``"first"`` reads rows as planes: all red, all green, all blue.""",
    )
    on_error: str = argument(
        StrOptions({"raise", "skip"}),
        default="raise",
        changeable=True,
        doc="""{"raise", "skip"}
What becomes of files that cannot be read. ``"skip"`` trains on another image in their place, notes
them in ``skipped_``, and gives rows of NaN for them in :meth:`transform`.""",
    )
    decoded_cache: str | os.PathLike | None = argument(
        str,
        os.PathLike,
        None,
        default=None,
        changeable=True,
        trains=False,
        doc="""str, path or None
Folder where decoded files are kept for later epochs and fits, in any process, as long as path, size
and time of change are the same. ``sklearn_ssl.images.prune_decoded`` shrinks it.""",
    )
    n_jobs: int | None = argument(
        Integral,
        None,
        default=-1,
        changeable=True,
        trains=False,
        doc="""int or None
Threads that decode files; ``-1`` takes one for each core. It is one in the workers of joblib.""",
    )
    views: Views | Callable[..., Any] | None = argument(
        Views,
        callable,
        None,
        default=None,
        doc="""Views, callable or None
How images are augmented. ``None`` is the recipe of this method, whose parameters can be set as
``views__size`` and so on. A callable takes a batch of images, a float tensor (n, c, h, w) in
[0, 1], and gives one of views; so do the transforms of torchvision, which draw once a batch.""",
    )
