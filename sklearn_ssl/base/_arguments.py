"""Declarations of the arguments that transformers, learners and multi-crop methods share."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from sklearn_ssl._utils._estimators import (
    COUNT,
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    DeclaredArguments,
    argument,
)
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.training import Checkpoint
from sklearn_ssl.views import Views


class ImageArguments(DeclaredArguments):
    """Arguments of all transformers of images: images, features, device and memory."""

    image_shape: tuple[int, ...] | None = argument(
        tuple,
        list,
        None,
        group="images",
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
    layer: str | Sequence[str] | None = argument(
        str,
        list,
        tuple,
        None,
        group="features",
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
    precision: str = argument(
        StrOptions({"auto", "bfloat16", "float32"}),
        group="device",
        default="auto",
        changeable=True,
        doc="""{"auto", "bfloat16", "float32"}
Number format of the network's products. ``"auto"`` takes bfloat16 where the hardware multiplies it
natively.""",
    )
    device: str | torch.device = argument(
        str,
        torch.device,
        default="auto",
        changeable=True,
        trains=False,
        doc="""str or torch.device
``"auto"`` takes a GPU when there is one.""",
    )
    deterministic: bool = argument(
        "boolean",
        default=True,
        changeable=True,
        doc="""bool
Whether a GPU gives the same bits in every run. ``False`` lets it choose faster kernels, and
attention that needs far less memory. A CPU always does.""",
    )
    memory: str | os.PathLike | Memory | None = argument(
        str,
        os.PathLike,
        Memory,
        None,
        group="memory",
        default=None,
        changeable=True,
        trains=False,
        writes=True,
        doc="""str, path, joblib.Memory or None
Folder in which pretrainings and features are kept: :meth:`fit` with the same images and arguments,
but for those that do not train (``layer``, ``pool``, ``device``, ``callbacks``, ``verbose``, ...),
takes what it learned before, in any process; callbacks do not see it then. With
``random_state=None`` every fit is another training, and only features are kept.
``joblib.Memory(folder).reduce_size(bytes_limit=...)`` deletes what was not used for long.""",
    )


class TrainingArguments(DeclaredArguments):
    """Arguments of all learners: the encoder that is trained, and how."""

    encoder: str | Callable[..., nn.Module] = argument(
        str,
        callable,
        group="encoder",
        default="small_resnet",
        doc="""str, class or callable
Network that is pretrained: ``"small_resnet"``, ``"small_vit"``, the name of a torchvision
classification model (``"resnet18"``), ``"timm/NAME"`` for a model of timm, or a class or function
that builds a module, ``functools.partial(Net, depth=3)`` for one. It is called with
``in_channels`` and ``image_shape`` if it takes arguments of these names.""",
    )
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
    views: Views | Callable[..., Any] | None = argument(
        Views,
        callable,
        None,
        group="training",
        default=None,
        doc="""Views, callable or None
How images are augmented. ``None`` is the recipe of this method, whose parameters can be set as
``views__size`` and so on. A callable takes a batch of images, a float tensor (n, c, h, w) in
[0, 1], and gives one of views; so do the transforms of torchvision, which draw once a batch.""",
    )
    max_epochs: int | None = argument(  # None in some subclasses, whose images tell
        COUNT_OR_ZERO,
        default=50,
        changeable=True,
        doc="""int
Number of passes over the images. 0 leaves the encoder as it starts, which is the baseline to
compare with.""",
    )
    time_budget: float | None = argument(
        POSITIVE,
        None,
        default=None,
        changeable=True,
        doc="""float or None
Seconds that :meth:`fit` may take, in place of ``max_epochs``; imports, which the first fit of a
process waits for, are not among them. Learning rate and what the method schedules go by time, so
that a training always ends with a whole schedule; ``n_images_seen_`` says how far it came, and a
warning if it did not come over all images once. Another run comes elsewhere, and its features are
not the same bits.""",
    )
    batch_size: int | None = argument(
        Interval(Integral, 2, None, closed="left"),
        None,
        default=None,
        changeable=True,
        doc="""int or None
Images in a step. ``None`` takes <_usual_batch_size>, but at most a quarter of the images.""",
    )
    lr: float = argument(
        POSITIVE,
        default=2e-3,
        changeable=True,
        doc="""float
Largest learning rate. It rises over ``warmup`` and then falls to 0 along half a cosine. The default
suits ``"adamw"``; ``"sgd"`` wants about ten times and ``"lars"`` a hundred times as much.""",
    )
    weight_decay: float = argument(
        NOT_NEGATIVE,
        default=1e-4,
        changeable=True,
        doc="""float
Decay of weights; biases and norms do not decay.""",
    )
    warmup: float = argument(
        SHARE,
        default=0.1,
        changeable=True,
        doc="""float
Share of the steps in which the learning rate rises.""",
    )
    schedule: str = argument(
        StrOptions({"cosine", "constant"}),
        default="cosine",
        changeable=True,
        doc="""{"cosine", "constant"}
How the learning rate, and what the method schedules, go over the epochs of a fit. ``"constant"``
stays at the start and has no warm-up, as :meth:`partial_fit` does: the first epochs of a long
training are then those of a short one, and with ``memory`` a longer one goes on from there.""",
    )
    optimizer: str | Callable[..., Any] = argument(
        StrOptions(set(OPTIMIZERS)),
        callable,
        default="adamw",
        changeable=True,
        doc="""{"adam", "adamw", "lars", "nadam", "radam", "rmsprop", "sgd"}, type or callable
Optimizer by name, a torch optimizer class, or what is called like one with groups of parameters,
``lr`` and ``weight_decay``: ``functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))``. Defaults
of all learners were found with AdamW, also where the paper of a method has SGD or LARS.""",
    )

    frozen_epochs: int = argument(
        COUNT_OR_ZERO,
        default=0,
        changeable=True,
        doc="""int
Epochs at the start of a fit in which the encoder is held, with the statistics of its batch norms,
while the heads of the task learn: for pretrained weights.""",
    )
    trainable_layers: int | None = argument(
        COUNT_OR_ZERO,
        None,
        default=None,
        changeable=True,
        doc="""int or None
How many of the encoder's last layers are trained; those before are held, with the statistics of
their batch norms. ``None`` trains all.""",
    )
    frozen_batch_norm: bool = argument(
        "boolean",
        default=False,
        changeable=True,
        doc="""bool
Whether batch norms of the encoder keep the statistics that they have: for pretrained weights, whose
features are of images, where views and small batches have others. A moving average of the encoder,
which some methods have, keeps them with it, also where an argument above holds layers.""",
    )
    layer_decay: float = argument(
        Interval(Real, 0, 1, closed="right"),
        default=1.0,
        doc="""float
Factor of the learning rate from each layer of the encoder to the one before, so that early layers
of pretrained weights change less. Heads learn at ``lr``, the last layer ``layer_decay * lr``.""",
    )
    warm_start: bool = argument(
        "boolean",
        default=False,
        changeable=True,
        trains=False,
        doc="""bool
Whether :meth:`fit` continues from where the last one ended. Learning rate and the schedules of the
method run anew over the epochs of each fit.""",
    )
    random_state: int | np.random.RandomState | None = argument(
        "random_state",
        default=None,
        changeable=True,
        trains=False,
        doc="""int, RandomState instance or None
Seeds weights, order and views. With an int, fits are reproducible on one machine with one number of
threads. No global random number generator is touched, also not with ``None``.""",
    )
    callbacks: list | None = argument(
        list,
        None,
        default=None,
        changeable=True,
        trains=False,
        doc="""list or None
Callbacks of skorch, which see the training as ``net_``; pairs of a name and a callback can be
searched as ``callbacks__name__parameter``. They can monitor ``train_loss`` (there is no validation,
so ``valid_loss`` is the same), ``feature_spread`` and the other terms in ``history_``. The learning
rate follows ``lr`` and ``warmup`` in every step, so a ``LRScheduler`` has no effect.""",
    )
    verbose: int = argument(
        "verbose",
        default=0,
        changeable=True,
        trains=False,
        doc="""int
1 shows a progress bar, 2 also a line of ``history_`` for each epoch.""",
    )
    checkpoint: str | os.PathLike | Checkpoint | None = argument(
        str,
        os.PathLike,
        Checkpoint,
        None,
        default=None,
        changeable=True,
        trains=False,
        writes=True,
        doc="""str, path, Checkpoint or None
Folder in which :meth:`fit` saves the training after each epoch, or a ``Checkpoint`` that says how
often. The same fit, called again after it was stopped, goes on from there and ends with the same
bits; other arguments or images are refused. With ``schedule="constant"``, a larger ``max_epochs``
goes on from what is there. :meth:`partial_fit` saves nothing.""",
    )


class MultiCropArguments(DeclaredArguments):
    """Arguments of learners that compare small crops, too."""

    local_crops: int = argument(
        COUNT_OR_ZERO,
        group="small crops",
        default=0,
        doc="""int
Number of small crops of each image beside its two views, of half their side, but 12 pixels at
least. Each is compared with both views (multi-crop, Caron et al. 2020).""",
    )
    local_scale: tuple[float, float] = argument(
        tuple,
        list,
        default=(0.1, 0.4),
        doc="""tuple of float
Range of the share of the image's area that small crops have.""",
    )
