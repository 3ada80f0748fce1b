"""Base classes of a pretext method: the learner, a scikit-learn estimator, and its task.

Methods outside this package use the same API; docs/architecture.md has an example.
"""

from sklearn_ssl._utils._estimators import argument
from sklearn_ssl.base._arguments import MultiCropArguments
from sklearn_ssl.base._cache import (  # for other rooms; not public
    describe as describe,
    described_arguments as described_arguments,
    is_on as is_on,
)
from sklearn_ssl.base._fixed import FrozenTransformer
from sklearn_ssl.base._learner import (
    PretextLearner,
    PretextTask,
    TaskOutput,
    read_training_images as read_training_images,
)
from sklearn_ssl.base._transformer import ImageTransformer, apply

__all__ = [
    "FrozenTransformer",
    "ImageTransformer",
    "MultiCropArguments",
    "PretextLearner",
    "PretextTask",
    "TaskOutput",
    "apply",
    "argument",
]


def __dir__() -> list[str]:
    return __all__
