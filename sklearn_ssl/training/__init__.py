"""The training loop, and the batches and callbacks that it needs."""

from sklearn_ssl.training._batches import Batches
from sklearn_ssl.training._callbacks import ProgressBar, SklearnCallbacks
from sklearn_ssl.training._net import PretextModule, PretextNet

__all__ = ["Batches", "PretextModule", "PretextNet", "ProgressBar", "SklearnCallbacks"]
