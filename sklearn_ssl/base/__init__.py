"""Parts of a pretext method: the learner, scikit-learn's face of it, and its task.

This is the API for methods outside of the package, too; docs/architecture.md shows one.
"""

from sklearn_ssl._utils._estimators import argument
from sklearn_ssl.base._arguments import MultiCropArguments
from sklearn_ssl.base._fixed import FrozenTransformer
from sklearn_ssl.base._learner import PretextLearner, PretextTask, TaskOutput
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
