"""Training loop, and the batches and callbacks that it needs."""

from sklearn_ssl.training._batches import Batches
from sklearn_ssl.training._callbacks import LoadWatch, ProgressBar, SklearnCallbacks, StopEarly
from sklearn_ssl.training._checkpoints import Checkpoints
from sklearn_ssl.training._module import PretextModule
from sklearn_ssl.training._net import PretextNet
from sklearn_ssl.training._progress import Progress

__all__ = [
    "Checkpoints",
    "Batches",
    "LoadWatch",
    "PretextModule",
    "PretextNet",
    "Progress",
    "ProgressBar",
    "SklearnCallbacks",
    "StopEarly",
]
