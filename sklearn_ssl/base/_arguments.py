"""The arguments that all learners share, and what is made of them."""

from typing import Any, Self

from sklearn.base import BaseEstimator
from torch.optim import Optimizer

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl.base._image_arguments import EncoderArguments, ImageArguments
from sklearn_ssl.base._nested import NestedParameters
from sklearn_ssl.base._training_arguments import KeepingArguments, RunArguments, TrainingArguments
from sklearn_ssl.images import Reading
from sklearn_ssl.views import Views, as_views

__all__ = ["SharedArguments"]


class SharedArguments(
    NestedParameters,
    KeepingArguments,  # dataclasses take the fields of the last base first
    RunArguments,
    TrainingArguments,
    ImageArguments,
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
