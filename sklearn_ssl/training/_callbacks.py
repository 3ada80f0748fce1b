"""Callbacks that learners put on their net: a progress bar, and scikit-learn's protocol."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop
from tqdm.auto import tqdm

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import BusyMachineWarning

__all__ = ["LoadWatch", "ProgressBar", "SklearnCallbacks", "StopEarly", "StopTraining"]

_LOOKS_AFTER = 20.0  # seconds: a short training is no matter, and a load is a mean over a minute
_BUSY = 2.0  # times as many threads that want to run as cores: others have half of them at least
_SHARE_OF_A_CORE = 0.6  # that a training alone on its cores is above


class StopTraining(Exception):
    """A callback asked for the end of the training after an epoch."""


class ProgressBar(Callback):
    """Bar over all steps of a training, and from ``verbose=2`` on a line for each epoch."""

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
    """Callback that ends a training when a value does not rise, and takes the best weights.

    A training that is resumed from a checkpoint knows the best weights from before.
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
        """Return what a checkpoint holds of the callback."""
        names = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
        return {name: value for name, value in vars(self).items() if name in names}

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore what :meth:`kept` gave, for the training that begins."""
        self.before = dict(kept)


class LoadWatch(Callback):
    """Callback that warns once, in a training on a CPU, that other processes slow it down.

    It warns if the load of the machine is far above its number of cores, and the threads of this
    process, which do nothing but compute, get little of the cores that they ask for.
    """

    began: tuple[float, float] | None = None  # on two clocks; None once it has looked

    def on_train_begin(self, net, **kwargs):
        self.began = time.monotonic(), time.process_time()

    def on_batch_end(self, net, **kwargs):
        if self.began is None or time.monotonic() - self.began[0] < _LOOKS_AFTER:
            return
        (wall, own), self.began = self.began, None
        cores = os.cpu_count() or 1
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
        threads = min(torch.get_num_threads(), cores)
        got = (time.process_time() - own) / (time.monotonic() - wall) / threads
        if load >= _BUSY * cores and got < _SHARE_OF_A_CORE:
            warn(
                f"the load of this machine is {load:.0f} on {cores} cores, and this training gets "
                f"{100 * got:.0f} % of the {threads} that it asks for: other processes slow it "
                "down, all the more as threads wait for each other. Run fewer side by side, or "
                "give each fewer threads: torch.set_num_threads(1)",
                BusyMachineWarning,
            )


class SklearnCallbacks(Callback):
    """Callback that reports a fit and its epochs through scikit-learn's callback protocol."""

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
