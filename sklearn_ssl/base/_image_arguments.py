"""Arguments of the encoder, its features and the images."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral

from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from sklearn_ssl._utils._arguments import COUNT, DeclaredArguments, argument

__all__ = ["EncoderArguments", "FeatureArguments", "ImageArguments", "WeightsArguments"]


class EncoderArguments(DeclaredArguments):
    """Arguments of the encoder."""

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


class WeightsArguments(DeclaredArguments):
    """Arguments of pretrained weights."""

    weights: str | os.PathLike | None = argument(
        str,
        os.PathLike,
        None,
        default=None,
        doc="""str, path or None
Pretrained weights to start from, by torchvision's names; ``"DEFAULT"`` takes the best ones, or
those that the name of a model of timm ends in. Or a file of torch or safetensors with a
``state_dict``, below any keys and prefixes: a checkpoint of lightly, MoCo, DINO or timm, say. The
first layer is adapted to the number of channels: one or two share the sum of its filters for red,
green and blue, more than three take them in turn.""",
    )
    input_size: str | int | Sequence[int] | None = argument(
        StrOptions({"auto"}),
        COUNT,
        tuple,
        list,
        None,
        default=None,
        doc="""{"auto"}, int, (int, int) or None
Size to which images are resized for the network: of the shorter side, or height and width. ``None``
leaves them as they are, and ``"auto"`` enlarges those that are smaller than what pretrained weights
were trained on. Views are resized by the same factors.""",
    )
    normalization: str | Sequence[Sequence[float]] = argument(
        StrOptions({"auto", "images"}),
        tuple,
        list,
        default="auto",
        doc="""{"auto", "images"} or (mean, std)
How images in [0, 1] are standardized for the network. ``"auto"`` is what torchvision or timm say of
pretrained weights, otherwise ``"images"``, the mean and standard deviation of each channel of the
images that are fitted.""",
    )


class FeatureArguments(DeclaredArguments):
    """Arguments of the features."""

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
``pool`` x ``pool`` cells, or all of it; one for all layers, or one for each. ``layer``, ``pool``
and ``mirror`` can be changed on a fitted learner.""",
    )
    mirror: bool = argument(
        "boolean",
        default=False,
        changeable=True,
        trains=False,
        doc="""bool
Whether features are the mean over an image and its mirror image, which takes twice as long. It
helps where left and right do not matter, as for most photographs.""",
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
    pages: int | str | None = argument(
        Interval(Integral, 0, None, closed="left"),
        StrOptions({"channels"}),
        None,
        default=None,
        doc="""int, "channels" or None
Which pages or frames of a file make its image: the one of this number, from 0, or all of them, as
channels. ``None`` takes files of one page, and those that call their pages channels (ImageJ, OME).
Reduced copies and masks do not count.""",
    )
    on_error: str = argument(
        StrOptions({"raise", "skip"}),
        default="raise",
        changeable=True,
        trains=False,
        doc="""{"raise", "skip"}
What becomes of files that cannot be read. ``"skip"`` trains on another image in their place, notes
them in ``skipped_``, and gives rows of NaN for them. Scores and monitors leave them out.""",
    )
    decoded_cache: str | os.PathLike | None = argument(
        str,
        os.PathLike,
        None,
        default=None,
        changeable=True,
        trains=False,
        writes=True,
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
Threads that decode files; ``-1`` takes one for each core. It is one in the workers of joblib
and of ``multiprocessing.Pool``.""",
    )
