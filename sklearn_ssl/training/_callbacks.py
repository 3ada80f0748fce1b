"""Callbacks that learners put on their net: a progress bar, and scikit-learn's protocol."""

import sys
from collections.abc import Callable
from typing import Any

from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop
from tqdm.auto import tqdm

__all__ = ["ProgressBar", "SklearnCallbacks", "StopEarly", "StopTraining"]


class StopTraining(Exception):
    """A callback asked for the end of the training after an epoch."""


class ProgressBar(Callback):
    """A bar over all steps of a training, and from ``verbose=2`` on a line for each epoch."""

    def __init__(self, description: str, verbose: int):
        self.verbose = verbose
        self.bar = tqdm(desc=description, unit="step", disable=not verbose)

    def on_train_begin(self, net, **kwargs):
        self.bar.reset(total=net.progress_.steps)
        self.bar.update(net.progress_.done)

    def on_batch_end(self, net, **kwargs):
        self.bar.update()

    def on_epoch_end(self, net, **kwargs):
        record = net.history[-1]
        self.bar.set_postfix(epoch=record["epoch"], loss=f"{record['train_loss']:.4g}")
        if self.verbose > 1:
            values = (f"{name} {value:.4g}" for name, value in net.epochs()[-1].items())
            self.bar.write(", ".join(values), file=sys.stderr)

    def close(self):
        """End the bar where it is; its last line stays."""
        self.bar.close()


class StopEarly(EarlyStopping):
    """End a training when a value of the history does not rise, and take the best weights.

    A training that is resumed from a checkpoint knows the best ones of before.
    """

    def __init__(self, monitor: str, patience: int):
        super().__init__(
            monitor, patience, threshold=0, lower_is_better=False, load_best=True, sink=noop
        )
        self.before: dict[str, Any] = {}

    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net, **kwargs)
        self.__dict__.update(self.before)
        self.before = {}

    def kept(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        names = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
        return {name: value for name, value in vars(self).items() if name in names}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take what :meth:`kept` gave, for the training that begins."""
        self.before = dict(kept)


class SklearnCallbacks(Callback):
    """Report a fit and its epochs through scikit-learn's callback protocol."""

    def __init__(
        self,
        learner: Any,
        X: Any,
        epochs: int | None,
        fitted: Callable[[], dict[str, Any]],
    ):
        self.given = {"estimator": learner, "X": X, "reconstruction_attributes": fitted}
        self.fit_context = learner._init_callback_context(max_subtasks=epochs)

    def on_train_begin(self, net, **kwargs):
        self.fit_context.call_on_fit_task_begin(**self.given)

    def on_epoch_begin(self, net, **kwargs):
        self.epoch_context = self.fit_context.subcontext(task_name="epoch")
        self.epoch_context.call_on_fit_task_begin(**self.given)

    def on_epoch_end(self, net, **kwargs):
        if self.epoch_context.call_on_fit_task_end(**self.given):
            raise KeyboardInterrupt

    def on_train_end(self, net, **kwargs):
        self.fit_context.call_on_fit_task_end(**self.given)
