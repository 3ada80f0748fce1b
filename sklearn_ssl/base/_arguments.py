"""The arguments that all learners share, and what is made of them."""

from typing import Any

from sklearn.base import BaseEstimator
from torch.optim import Optimizer

from sklearn_ssl._utils._arguments import DeclaredArguments
from sklearn_ssl.base._image_arguments import (
    EncoderArguments,
    FeatureArguments,
    ImageArguments,
    WeightsArguments,
)
from sklearn_ssl.base._nested import NestedParameters
from sklearn_ssl.base._training_arguments import (
    DeviceArguments,
    KeepingArguments,
    MemoryArguments,
    RunArguments,
    TrainingArguments,
)
from sklearn_ssl.views import Views, as_views

__all__ = ["SharedArguments"]


class SharedArguments(
    NestedParameters,
    MemoryArguments,  # dataclasses take the fields of the last base first
    KeepingArguments,
    RunArguments,
    DeviceArguments,
    TrainingArguments,
    ImageArguments,
    FeatureArguments,
    WeightsArguments,
    EncoderArguments,
    BaseEstimator,
):
    """Encoder and features, training, and where and how it runs."""

    def _default_views(self) -> Views:
        """The recipe of the method, for ``views=None``."""
        return Views()

    def _make_views(self, size: Any = None) -> Any:
        """The user's views, or the method's; ``size`` is for views that have none."""
        return as_views(self._default_views() if self.views is None else self.views, size)

    _validate_params = DeclaredArguments._validate_params  # before that of BaseEstimator

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
