"""Parts of a pretext method: the learner, scikit-learn's face of it, and its task.

This is the API for methods outside of the package, too; docs/architecture.md shows one.
"""

from sklearn_ssl._utils._arguments import argument
from sklearn_ssl.base._arguments import MultiCropArguments
from sklearn_ssl.base._frozen import FrozenTransformer
from sklearn_ssl.base._learner import PretextLearner
from sklearn_ssl.base._saved import FORMAT
from sklearn_ssl.base._task import PretextTask, TaskOutput
from sklearn_ssl.base._transformer import ImageTransformer

__all__ = [
    "FORMAT",
    "FrozenTransformer",
    "ImageTransformer",
    "MultiCropArguments",
    "PretextLearner",
    "PretextTask",
    "TaskOutput",
    "argument",
]
