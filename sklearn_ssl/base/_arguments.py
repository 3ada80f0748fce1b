"""Arguments that all learners share, and the views made from them."""

from typing import Any

from sklearn.base import BaseEstimator
from torch.optim import Optimizer

from sklearn_ssl._utils._arguments import COUNT_OR_ZERO, DeclaredArguments, argument
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
from sklearn_ssl.views import MultiCrop, Views, as_views

__all__ = ["MultiCropArguments", "SharedArguments"]


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
        """Return the recipe of the method, for ``views=None``."""
        return Views()

    def _make_views(self, size: Any = None) -> Any:
        """Return the user's views, or the method's; ``size`` is for views that have none."""
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


class MultiCropArguments(DeclaredArguments):
    """Arguments of small crops."""

    local_crops: int = argument(
        COUNT_OR_ZERO,
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

    def _make_crops(self: Any, encoder: Any) -> MultiCrop:
        return MultiCrop(
            self._make_views(), self.local_crops, self.local_scale, encoder.image_shape
        )
