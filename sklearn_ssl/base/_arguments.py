"""The arguments that all learners share."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
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
from sklearn_ssl.nn import OPTIMIZERS
from sklearn_ssl.views import Views, as_views

__all__ = ["SharedArguments"]


class SharedArguments(DeclaredArguments, BaseEstimator):
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
takes squares of one or three channels, else strips of height 1.""",
    )
    channel_order: str = argument(
        StrOptions({"auto", "first", "last"}),
        default="auto",
        doc="""{"auto", "first", "last"}
Whether ``X`` has the channels before height and width, as planes, or after them. ``"auto"`` takes
them first in torch tensors (n, channels, height, width), and last in arrays and in rows of a 2-D
``X``. ``"first"`` reads rows as planes: all red, all green, all blue.""",
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
        doc="""int, RandomState instance or None
Seeds weights, order and views. With an int, fits are reproducible on one machine with one number of
threads. No global random number generator is touched, also not with ``None``.""",
    )
    warm_start: bool = argument(
        "boolean",
        default=False,
        changeable=True,
        doc="""bool
Whether :meth:`fit` continues from where the last one ended. Learning rate and the schedules of the
method run anew over the epochs of each fit.""",
    )
    callbacks: list | None = argument(
        list,
        None,
        default=None,
        changeable=True,
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
        doc="""int
1 shows a progress bar, 2 also a line of ``history_`` for each epoch.""",
    )

    def _default_views(self) -> Views:
        """The recipe of the method, for ``views=None``."""
        return Views()

    def _make_views(self, size: Any = None) -> Any:
        """The user's views, or the method's; ``size`` is for views that have none."""
        return as_views(self._default_views() if self.views is None else self.views, size)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of this learner and, if ``deep``, of the estimators among them.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
        """
        params = super().get_params(deep=False)
        nested = [(n, value) for n, value in params.items() if isinstance(value, BaseEstimator)]
        for name, value in nested if deep else ():  # torchvision's get_params is another thing
            params |= {f"{name}__{n}": v for n, v in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of views (``views__size``) and callbacks (``callbacks__name__...``).

        Parameters
        ----------
        **params : object

        Returns
        -------
        self
        """
        of_views = {n: params.pop(n) for n in list(params) if n.startswith("views__")}
        of_callbacks = {n: params.pop(n) for n in list(params) if n.startswith("callbacks__")}
        super().set_params(**params)  # first, as the recipe may depend on them
        for name, value in of_callbacks.items():
            self._set_of_callback(name, value)
        if of_views and self.views is None:
            self.views = self._default_views()
        if of_views and not isinstance(self.views, Views):
            raise ValueError(
                f"{', '.join(of_views)}: views={self.views!r} has no parameters that are known; "
                "give a Views object"
            )
        return super().set_params(**of_views)

    def _set_of_callback(self, name: str, value: Any) -> None:
        _, which, *parameter = name.split("__", 2)
        callbacks = self.callbacks or []
        names = [pair[0] if isinstance(pair, tuple) else "" for pair in callbacks]
        if which not in names:
            raise ValueError(
                f"{name}: there is no callback of this name. Callbacks whose parameters are set "
                "are given as pairs, callbacks=[('stop', EarlyStopping())]"
            )
        if parameter:
            changed = clone(callbacks[names.index(which)][1])
            changed.set_params(**{parameter[0]: value})  # which gives nothing back
        else:  # another one, or None for none
            changed = value
        pairs = zip(names, callbacks, strict=True)
        changed_ones = [(which, changed) if n == which else callback for n, callback in pairs]
        self.callbacks = [one for one in changed_ones if one != (which, None)]

    def _validate(self) -> None:
        self._validate_params()
        if isinstance(self.optimizer, type) and not issubclass(self.optimizer, Optimizer):
            raise TypeError(f"optimizer={self.optimizer!r} must be a class of torch.optim")
        if isinstance(self.views, type):
            raise TypeError(f"'views' is a class; give an object, {self.views.__name__}()")
        if isinstance(self.views, Views):
            self.views.validate()

    def _plainly(self) -> Self:
        """This learner with Python's numbers where it was given NumPy's."""
        return type(self)(**{name: plain(getattr(self, name)) for name in self._arguments})
