"""Arguments of the training that all learners share."""

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_ssl._utils._arguments import (
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    DeclaredArguments,
    argument,
)
from sklearn_ssl._utils._checkpoints import Checkpoint
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.views import Views

__all__ = [
    "DeviceArguments",
    "KeepingArguments",
    "MemoryArguments",
    "RunArguments",
    "TrainingArguments",
]


class TrainingArguments(DeclaredArguments):
    """Arguments of the training."""

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


class DeviceArguments(DeclaredArguments):
    """Arguments of where it runs."""

    precision: str = argument(
        StrOptions({"auto", "bfloat16", "float32"}),
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


class RunArguments(DeclaredArguments):
    """Arguments of a run."""

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


class KeepingArguments(DeclaredArguments):
    """Arguments of a fit that goes on."""

    warm_start: bool = argument(
        "boolean",
        default=False,
        changeable=True,
        trains=False,
        doc="""bool
Whether :meth:`fit` continues from where the last one ended. Learning rate and the schedules of the
method run anew over the epochs of each fit.""",
    )


class MemoryArguments(DeclaredArguments):
    """Arguments of what need not be computed twice."""

    memory: str | os.PathLike | Memory | None = argument(
        str,
        os.PathLike,
        Memory,
        None,
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
