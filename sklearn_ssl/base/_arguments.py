"""The arguments that all learners share."""

import os
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn
from torch.optim import Optimizer

from sklearn_ssl._utils._arguments import (
    COUNT,
    COUNT_OR_ZERO,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    DeclaredArguments,
    argument,
    plain,
)
from sklearn_ssl._utils._checkpoints import Checkpoint
from sklearn_ssl.base._nested import NestedParameters
from sklearn_ssl.images import Reading
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.views import Views, as_views

__all__ = ["SharedArguments"]


class SharedArguments(NestedParameters, DeclaredArguments, BaseEstimator):
    """Encoder and features, training, and where and how it runs."""

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
    layer: str | None = argument(
        str,
        None,
        default=None,
        changeable=True,
        trains=False,
        doc="""str or None
Layer whose features :meth:`transform` gives; see :meth:`encoder_layers`. ``None`` takes the last
stage but one, which mostly serves other tasks better than the last.""",
    )
    pool: str | int | None = argument(
        StrOptions({"avg", "max"}),
        COUNT,
        None,
        default=3,
        changeable=True,
        trains=False,
        doc="""{"avg", "max"}, int or None
How a feature map becomes a vector: its mean or maximum over positions, means over a grid of
``pool`` x ``pool`` cells, or all of it. ``layer`` and ``pool`` can be changed on a fitted
learner.""",
    )
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
    max_epochs: int = argument(
        COUNT_OR_ZERO,
        default=50,
        changeable=True,
        doc="""int
Number of passes over the images. 0 leaves the encoder as it starts, which is the baseline to
compare with.""",
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
    random_state: int | np.random.RandomState | None = argument(
        "random_state",
        default=None,
        changeable=True,
        trains=False,
        doc="""int, RandomState instance or None
Seeds weights, order and views. With an int, fits are reproducible on one machine with one number of
threads. No global random number generator is touched, also not with ``None``.""",
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
    checkpoint: str | os.PathLike | Checkpoint | None = argument(
        str,
        os.PathLike,
        Checkpoint,
        None,
        default=None,
        changeable=True,
        trains=False,
        doc="""str, path, Checkpoint or None
Folder in which :meth:`fit` saves the training after each epoch, or a ``Checkpoint`` that says how
often. The same fit, called again after it was stopped, goes on from there and ends with the same
bits; other arguments or images are refused. :meth:`partial_fit` saves nothing.""",
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

    def _default_views(self) -> Views:
        """The recipe of the method, for ``views=None``."""
        return Views()

    def _make_views(self, size: Any = None) -> Any:
        """The user's views, or the method's; ``size`` is for views that have none."""
        return as_views(self._default_views() if self.views is None else self.views, size)

    def _reading(self, broken: str) -> Reading:
        """How files are read; ``broken`` is for those that cannot be, if they are to be skipped."""
        broken = broken if self.on_error == "skip" else "raise"
        return Reading(plain(self.n_jobs), broken, self.decoded_cache)

    def _validate(self) -> None:
        self._validate_params()
        if isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer):
            raise TypeError(f"optimizer={self.optimizer!r} must be a class of torch.optim")
        for given in self.callbacks or ():
            callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
            if callback is not None and not hasattr(callback, "on_epoch_end"):
                raise TypeError(
                    f"callbacks has {given!r}; give callbacks of skorch, or pairs of a name and one"
                )
        if isinstance(self.views, type):
            raise TypeError(f"'views' is a class; give an object, {self.views.__name__}()")
        if isinstance(self.views, Views):
            self.views.validate()

    def _plainly(self) -> Self:
        """This learner with Python's numbers where it was given NumPy's."""
        return type(self)(**{name: plain(getattr(self, name)) for name in self._arguments})
