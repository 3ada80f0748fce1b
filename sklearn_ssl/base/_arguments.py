"""Declarations of the arguments shared by transformers, learners and multi-crop methods."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from joblib import Memory
from torch import nn

from sklearn_ssl._utils._estimators import (
    COUNT,
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    DeclaredArguments,
    Interval,
    StrOptions,
    argument,
)
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.training import CheckpointFolder
from sklearn_ssl.views import Views


class ImageArguments(DeclaredArguments):
    """Arguments of all image transformers: images, features, device and memory.

    Parameters
    ----------
    image_shape : tuple of int or None
        (height, width) or (height, width, channels) of images given as rows of a 2-D ``X``.
        ``None`` reads rows as squares with one or three channels, or else as strips of height 1.
        Files are resized to this size (see ``resize``); ``None`` keeps their size if it is the same
        for all and at most 256 pixels per side, and resizes them to 96 x 96 otherwise.
    channel_order : {"auto", "first", "last"}
        Position of the channels in ``X``: before height and width, or after them. ``"auto"``
        expects them first in torch tensors (n, channels, height, width), and last in arrays and in
        rows of a 2-D ``X``. ``"first"`` reads such rows as planes: all red, all green, all blue.
    pages : int, "channels" or None
        Pages or frames to read from each file: the page with this number (from 0), or all pages
        stacked as channels. ``None`` accepts files with one page, and files that declare their
        pages to be channels (ImageJ, OME). Reduced copies and masks are ignored.
    resize : {"crop", "pad", "squash"}
        How files whose sides have another ratio are brought to the size: ``"crop"`` resizes them to
        cover it and cuts off what is beyond it; ``"pad"`` resizes them to fit in and fills the rest
        with 0, so that nothing is lost; ``"squash"`` changes their proportions.
    on_error : {"raise", "skip"}
        Treatment of files that cannot be read. ``"skip"`` replaces them by other images in
        training, lists them in ``skipped_``, and returns NaN as their features. Scores and monitors
        leave them out.
    decoded_cache : str, path or None
        Folder for a cache of decoded files, shared by all epochs, fits and processes. A file is
        decoded again if its path, size or modification time changes.
        ``sklearn_ssl.images.prune_decoded`` shrinks the cache.
    n_jobs : int or None
        Number of threads that decode files; ``-1`` uses one per core. Workers of joblib and of
        ``multiprocessing.Pool`` always use one.
    layer : str, list of str or None
        Layer whose features :meth:`transform` returns; see :meth:`encoder_layers`. ``None`` uses
        the second-to-last stage, which usually transfers better than the last. The features of
        several layers, or of ``"all"``, are computed in one pass and concatenated.
    pool : {"avg", "max"}, int, None or list of them
        Pooling of a feature map to a vector: the mean or maximum over all positions, means over a
        grid of ``pool`` x ``pool`` cells, or ``None`` for the whole map. A list has one entry per
        layer. ``layer``, ``pool`` and ``mirror`` can be changed on a fitted learner.
    mirror : bool
        Whether to average the features of an image and its mirror image, which takes twice as long.
        This helps where left and right do not matter, as in most photographs.
    precision : {"auto", "bfloat16", "float32"}
        Precision of matrix products and convolutions in the network. ``"auto"`` uses bfloat16 where
        the hardware multiplies it natively, and float32 elsewhere.
    device : str or torch.device
        Device to compute on. ``"auto"`` uses a GPU if there is one.
    deterministic : bool
        Whether a GPU must compute the same bits in every run. ``False`` allows faster kernels, and
        attention that needs far less memory. A CPU is always deterministic.
    memory : str, path, joblib.Memory or None
        Folder for a cache of pretraining runs and features, shared by all processes. Fitting again
        with the same images and arguments loads the cached run, without calling callbacks;
        arguments that do not affect training (``layer``, ``pool``, ``device``, ``callbacks``,
        ``verbose``, ...) may differ. With ``random_state=None`` every fit is a new run, so only
        features are cached. ``joblib.Memory(folder).reduce_size(bytes_limit=...)`` deletes the
        least recently used results.
    """

    image_shape: tuple[int, ...] | None = argument(tuple, list, None, group="images", default=None)
    channel_order: str = argument(StrOptions({"auto", "first", "last"}), default="auto")
    pages: int | str | None = argument(COUNT_OR_ZERO, StrOptions({"channels"}), None, default=None)
    resize: str = argument(StrOptions({"crop", "pad", "squash"}), default="crop")
    on_error: str = argument(
        StrOptions({"raise", "skip"}), default="raise", changeable=True, trains=False
    )
    decoded_cache: str | os.PathLike | None = argument(
        str, os.PathLike, None, default=None, changeable=True, trains=False, writes=True
    )
    n_jobs: int | None = argument(Integral, None, default=-1, changeable=True, trains=False)
    layer: str | Sequence[str] | None = argument(
        str, list, tuple, None, group="features", default=None, changeable=True, trains=False
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
    )
    mirror: bool = argument("boolean", default=False, changeable=True, trains=False)
    precision: str = argument(
        StrOptions({"auto", "bfloat16", "float32"}), group="device", default="auto", changeable=True
    )
    device: str | torch.device = argument(
        str, torch.device, default="auto", changeable=True, trains=False
    )
    deterministic: bool = argument("boolean", default=True, changeable=True)
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
    )


class TrainingArguments(DeclaredArguments):
    """Arguments of all learners: the encoder, and how it is trained.

    Parameters
    ----------
    encoder : str, class or callable
        Network to pretrain: ``"small_resnet"``; ``"small_convnet"``, which trains three times as
        fast, or ``"wide_convnet"``; ``"small_vit"``; the name of a torchvision classification model
        (``"resnet18"``); ``"timm/NAME"`` for a timm model; or a class or function that builds a
        module, such as ``functools.partial(Net, depth=3)``. It is called with ``in_channels`` and
        ``image_shape`` if it has arguments with these names.
    weights : str, path or None
        Pretrained weights to start from: the name of torchvision weights, or ``"DEFAULT"`` for
        torchvision's best ones or for those that a timm model's name ends with. Or a torch or
        safetensors file with a ``state_dict``, nested under any keys and prefixes: a checkpoint of
        lightly, MoCo, DINO or timm, for example. The first layer is adapted to the number of
        channels: one or two share the sum of the filters for red, green and blue, and more than
        three use these filters in turn.
    input_size : {"auto"}, int, (int, int) or None
        Size to which images are resized for the network: their shorter side, or (height, width).
        ``None`` keeps their size, and ``"auto"`` enlarges images that are smaller than those the
        pretrained weights were trained on. Views are resized by the same factors.
    normalization : {"auto", "images"} or (mean, std)
        Standardization of images in [0, 1] for the network. ``"images"`` uses the mean and standard
        deviation of each channel of the training images. ``"auto"`` uses the values that
        torchvision or timm publish with pretrained weights, and ``"images"`` otherwise.
    views : Views, callable or None
        Augmentation of the images. ``None`` uses the method's own recipe, whose parameters can be
        set as ``views__size`` and so on. A callable takes a batch of images, a float tensor (n, c,
        h, w) in [0, 1], and returns a batch of views. Torchvision transforms work, but draw once
        per batch, not per image.
    max_epochs : int
        Number of passes over the images. 0 leaves the encoder as initialized, which is the baseline
        to compare with.
    time_budget : float or None
        Number of seconds that :meth:`fit` may take, in place of ``max_epochs``. Imports during the
        first fit of a process do not count. The learning rate and the method's schedules follow the
        elapsed time, so they are always completed. ``n_images_seen_`` says how far training got; if
        that is less than one pass over the images, there is a warning. The number of steps differs
        between runs, so their features are not bit-identical.
    batch_size : int or None
        Number of images per step. ``None`` uses <_usual_batch_size>, but at most a quarter of the
        images.
    lr : float
        Peak learning rate. The rate rises over ``warmup`` and then falls to 0 along half a cosine.
        The default suits ``"adamw"``; ``"muon"`` needs up to five times, ``"sgd"`` about ten times
        and ``"lars"`` a hundred times as much.
    weight_decay : float
        Weight decay; not applied to biases and normalization layers.
    warmup : float
        Fraction of the training over which the learning rate rises.
    schedule : {"cosine", "constant"}
        Schedule of the learning rate, and of the method's other scheduled values, over a fit.
        ``"constant"`` uses ``lr`` and the initial values throughout, without warmup, as
        :meth:`partial_fit` does. A long training run then begins with exactly the epochs of a short
        one, and with ``memory`` it resumes from the cached short run.
    optimizer : str, type or callable
        ``"adam"``, ``"adamw"``, ``"lars"``, ``"muon"``, ``"nadam"``, ``"radam"``, ``"rmsprop"`` or
        ``"sgd"``; a torch optimizer class; or a callable with the same arguments
        (parameter groups, ``lr`` and ``weight_decay``), such as
        ``functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))``. The defaults of all learners
        were tuned with AdamW, even where the paper uses SGD or LARS.
    frozen_epochs : int
        Number of epochs at the start of a fit in which the encoder is frozen, including its batch
        norm statistics, and only the heads of the task learn. Meant for pretrained weights.
    trainable_layers : int or None
        Number of the encoder's last layers to train; earlier layers are frozen, including their
        batch norm statistics. ``None`` trains all layers.
    frozen_batch_norm : bool
        Whether the encoder's batch norms keep the statistics they start with. Meant for pretrained
        weights: their statistics are those of whole images, and views and small batches have
        different ones. In methods with an EMA of the encoder, its batch norms are frozen too; the
        same goes for ``frozen_epochs`` and ``trainable_layers``.
    layer_decay : float
        Factor between the learning rates of each encoder layer and the next, so that early layers
        of pretrained weights change less. Heads learn at ``lr``, the last layer at ``layer_decay *
        lr``.
    warm_start : bool
        Whether :meth:`fit` continues from the end of the previous fit. The learning rate and the
        method's schedules start over in each fit.
    random_state : int, RandomState instance or None
        Seed for initial weights, image order and views. With an int, fits are reproducible on the
        same machine with the same number of threads. Global random number generators are never
        affected, even with ``None``.
    callbacks : list or None
        skorch callbacks, or pairs of a name and a callback, whose parameters can be searched as
        ``callbacks__name__parameter``. They receive the net that becomes ``net_``, and can monitor
        ``train_loss`` (``valid_loss`` is the same, as there is no validation), ``feature_spread``
        and the other terms in ``history_``. The learning rate is set in every step, so an
        ``LRScheduler`` has no effect.
    verbose : int
        1 shows a progress bar; 2 also prints a line of ``history_`` per epoch.
    checkpoint : str, path, CheckpointFolder or None
        Folder in which :meth:`fit` saves its state after each epoch; a ``CheckpointFolder`` also
        sets how often. If a fit was interrupted, the same call resumes it and ends with the same
        bits; other arguments or images raise an error. With ``schedule="constant"``, a fit with a
        larger ``max_epochs`` resumes from the last checkpoint. :meth:`partial_fit` saves no
        checkpoints.
    """

    encoder: str | Callable[..., nn.Module] = argument(
        str, callable, group="encoder", default="small_resnet"
    )
    weights: str | os.PathLike | None = argument(str, os.PathLike, None, default=None)
    input_size: str | int | Sequence[int] | None = argument(
        StrOptions({"auto"}), COUNT, tuple, list, None, default=None
    )
    normalization: str | Sequence[Sequence[float]] = argument(
        StrOptions({"auto", "images"}), tuple, list, default="auto"
    )
    views: Views | Callable[..., Any] | None = argument(
        Views, callable, None, group="training", default=None
    )
    # None in some subclasses: chosen by the number of images
    max_epochs: int | None = argument(COUNT_OR_ZERO, default=50, changeable=True)
    time_budget: float | None = argument(POSITIVE, None, default=None, changeable=True)
    batch_size: int | None = argument(
        Interval(Integral, 2, None, closed="left"), None, default=None, changeable=True
    )
    lr: float = argument(POSITIVE, default=2e-3, changeable=True)
    weight_decay: float = argument(NOT_NEGATIVE, default=1e-4, changeable=True)
    warmup: float = argument(SHARE, default=0.1, changeable=True)
    schedule: str = argument(StrOptions({"cosine", "constant"}), default="cosine", changeable=True)
    optimizer: str | Callable[..., Any] = argument(
        StrOptions(set(OPTIMIZERS)), callable, default="adamw", changeable=True
    )

    frozen_epochs: int = argument(COUNT_OR_ZERO, default=0, changeable=True)
    trainable_layers: int | None = argument(COUNT_OR_ZERO, None, default=None, changeable=True)
    frozen_batch_norm: bool = argument("boolean", default=False, changeable=True)
    layer_decay: float = argument(Interval(Real, 0, 1, closed="right"), default=1.0)
    warm_start: bool = argument("boolean", default=False, changeable=True, trains=False)
    random_state: int | np.random.RandomState | None = argument(
        "random_state", default=None, changeable=True, trains=False
    )
    callbacks: list | None = argument(list, None, default=None, changeable=True, trains=False)
    verbose: int = argument("verbose", default=0, changeable=True, trains=False)
    checkpoint: str | os.PathLike | CheckpointFolder | None = argument(
        str,
        os.PathLike,
        CheckpointFolder,
        None,
        default=None,
        changeable=True,
        trains=False,
        writes=True,
    )


class MultiCropArguments(DeclaredArguments):
    """Arguments of learners that can also compare small crops.

    Parameters
    ----------
    local_crops : int
        Number of small crops per image, in addition to its two views. Their side is half that of
        the views, but at least 12 pixels. Each is compared with both views (multi-crop, Caron et
        al. 2020).
    local_scale : tuple of float
        Range of the area of small crops, as a fraction of the image.
    """

    local_crops: int = argument(COUNT_OR_ZERO, group="small crops", default=0)
    local_scale: tuple[float, float] = argument(tuple, list, default=(0.1, 0.4))
