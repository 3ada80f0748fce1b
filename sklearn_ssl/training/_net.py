"""The training loop: a skorch net whose steps leave everything on the device."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import skorch
import torch
from torch import Tensor, nn

from sklearn_ssl._utils._device import autocast
from sklearn_ssl.encoders import Encoder
from sklearn_ssl.exceptions import DivergenceError
from sklearn_ssl.images import Images, PixelRange
from sklearn_ssl.metrics import feature_spread
from sklearn_ssl.nn import OPTIMIZERS, parameter_groups, warmup_cosine
from sklearn_ssl.training._batches import Batches

__all__ = ["PretextModule", "PretextNet"]


class PretextModule(nn.Module):
    """Pixels as they come in, scaled to [0, 1], to a task's loss."""

    def __init__(self, pixels: PixelRange, task: Any):
        super().__init__()
        self.pixels = pixels
        self.task = task

    def forward(self, pixels: Tensor, index: Tensor) -> dict[str, Tensor]:
        return self.task(self.pixels(pixels), index)


class StopTraining(Exception):
    """A callback asked for the end of the training after an epoch."""


class PretextNet(skorch.NeuralNet):
    """skorch's loop for a pretext task: no labels, no validation split, no sync within an epoch.

    Parameters
    ----------
    module : PretextModule
    optimizer : str or type
        A name in ``OPTIMIZERS`` or a torch optimizer class.
    weight_decay : float
    warmup : float
        Share of the steps in which the learning rate rises; a cosine follows.
    precision : str
    **options
        Of :class:`skorch.NeuralNet`: ``lr``, ``batch_size``, ``device``, ``callbacks``.
    """

    def __init__(
        self,
        module: PretextModule,
        *,
        optimizer: str | type = "adamw",
        weight_decay: float = 0.0,
        warmup: float = 0.0,
        precision: str = "auto",
        **options: Any,
    ):
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.precision = precision
        options |= {"criterion": None, "train_split": None, "iterator_train": Batches}
        super().__init__(module, optimizer=optimizer, **options)

    # What skorch builds

    def initialize_criterion(self):
        """Nothing: a task computes its own loss."""
        return self

    def initialize_module(self):
        super().initialize_module()
        self.module_.to(memory_format=torch.channels_last)
        return self

    def initialize_optimizer(self, triggered_directly=None):
        groups = parameter_groups(self.module_, self.weight_decay)
        make: Any = OPTIMIZERS.get(self.optimizer, self.optimizer)
        try:
            self.optimizer_ = make(groups, lr=self.lr, weight_decay=self.weight_decay)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"optimizer={self.optimizer!r} cannot be made of groups of parameters, lr and "
                f"weight_decay: {error}"
            ) from error
        return self

    def get_default_callbacks(self):
        return []

    def get_iterator(self, dataset, training=False):
        return Batches(dataset, self.batch_size, torch.device(self.device))

    # The loop

    def train(
        self, images: Images, epochs: int, *, constant_lr: bool = False, watchers: Sequence = ()
    ) -> None:
        """Train for ``epochs`` more, as skorch's ``partial_fit`` does but for three things.

        Ctrl-C is not swallowed, the schedules run once over these epochs (or stay at their start
        with ``constant_lr``), and ``watchers`` are callbacks that are gone afterwards.
        """
        steps = epochs * max(1, len(images) // self.batch_size)
        self.callbacks_: list
        self.steps_done, self.total_steps, self.constant_lr = 0, steps, constant_lr
        kept = self.callbacks_
        self.callbacks_ = [*kept, *((f"watcher{i}", cb) for i, cb in enumerate(watchers))]
        self._set_training(False)  # callbacks may look at features
        try:
            self.notify("on_train_begin", X=images)
            with contextlib.suppress(StopTraining):
                self.fit_loop(images, epochs=epochs)
            self.notify("on_train_end", X=images)
        finally:
            self.callbacks_ = kept
            self._set_training(False)

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; one that raises KeyboardInterrupt after an epoch ends the training.

        This is how skorch's callbacks stop a training; the others see the end of the epoch all the
        same. A Ctrl-C elsewhere goes to the caller.
        """
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        self.on_epoch_end(self, **kwargs)
        stopped = False
        for _, callback in self.callbacks_:
            try:
                callback.on_epoch_end(self, **kwargs)
            except KeyboardInterrupt:
                stopped = True
        if stopped:
            raise StopTraining

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Record nothing: values of single batches would have to be read from the device."""

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        began = time.perf_counter()
        self._set_training(True)
        self.history.new_batch()  # callbacks of skorch expect one, Checkpoint for example
        records = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=True)
            lr = self._schedule_lr()
            terms = step_fn(batch)
            records.append({name: term.detach() for name, term in terms.items()})
            self.notify("on_batch_end", batch=batch, training=True, **terms)
        # from here on values are read from the device
        means = {
            name: torch.stack([record[name] for record in records]).float().mean().item()
            for name in records[0]
        }
        seconds = time.perf_counter() - began
        for name, value in means.items():
            self.history.record("train_loss" if name == "loss" else name, value)
        self.history.record("lr", lr)
        self.history.record("seconds", seconds)
        self.history.record("images_per_second", len(records) * iterator.batch_size / seconds)
        spread = self._feature_spread(batch[0])
        self.history.record("feature_spread", spread)
        self._check_finite("pretext loss", means["loss"])
        self._check_finite("spread of the features", spread)  # after the epoch's last step

    def train_step_single(self, batch, **fit_params):
        pixels, index = batch
        with autocast(pixels.device, self.precision):
            terms = self.module_(pixels, index)
        terms["loss"].backward()
        return terms

    def train_step(self, batch, **fit_params):
        terms = super().train_step(batch, **fit_params)
        self.steps_done += 1
        progress = None if self.constant_lr else self.steps_done / self.total_steps
        self.module_.task.after_step(progress)
        return terms

    def _schedule_lr(self) -> float:
        # a step is scheduled by its middle, so that neither the first nor the last has an lr of 0
        progress = (self.steps_done + 0.5) / self.total_steps
        lr = self.lr * (1.0 if self.constant_lr else warmup_cosine(progress, self.warmup))
        for group in self.optimizer_.param_groups:
            group["lr"] = lr
        return lr

    @torch.no_grad()
    def _feature_spread(self, pixels: Tensor) -> float:
        self._set_training(False)
        with autocast(pixels.device, self.precision):
            features = self.module_.task.encoder.embed(self.module_.pixels(pixels))
        return feature_spread(features).item()

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergenceError(
                f"the {what} became {value} in epoch {len(self.history)}. Try a smaller lr "
                f"(it is {self.lr}), a longer warmup (it is {self.warmup}) or "
                f"precision='float32' (it is {self.precision!r})"
            )

    @property
    def encoder(self) -> Encoder:
        return self.module_.task.encoder

    @torch.no_grad()
    def map(
        self, images: Images, function: Callable[..., Tensor], *arguments: np.ndarray
    ) -> np.ndarray:
        """Apply ``function`` to all images, scaled to [0, 1], and put the results in an array.

        ``arguments`` are arrays with a row for each image, which the function takes, too.

        Chunks have one size, the last one padded: the same image then gives the same bits whatever
        the images around it are.
        """
        device = torch.device(self.device)
        pixels_a_chunk = 2**16 if device.type == "cpu" else 2**22
        height, width, _ = images.shape
        size = min(max(1, pixels_a_chunk // (height * width)), 512)
        results = np.empty(0)
        for start in range(0, len(images), size):
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            batch = images.take(rows).to(device)
            more = [torch.from_numpy(argument[rows]).to(device) for argument in arguments]
            with autocast(device, self.precision):
                result = function(self.module_.pixels(batch), *more)
            chunk = result[: len(images) - start].cpu().numpy()
            if start == 0:
                results = np.empty((len(images), *chunk.shape[1:]), chunk.dtype)
            results[start : start + len(chunk)] = chunk
        return results

    # State, wherever it goes

    def set_training(self, options: dict[str, Any], batch_size: int, device: torch.device) -> None:
        """Continue with other options. The optimizer is a new one only if another is wanted."""
        fresh = options["optimizer"] != self.optimizer
        self.__dict__.update(options, batch_size=batch_size)
        self.move_to(device)
        self.initialize_callbacks()
        if fresh:
            with self._current_init_context("optimizer"):
                self.initialize_optimizer()
        for group in self.optimizer_.param_groups:
            if group["decays"]:
                group["weight_decay"] = self.weight_decay

    def move_to(self, device: torch.device) -> None:
        """Move the module and the optimizer's state."""
        self.device = str(device)
        self.module_.to(device)
        # torch moves the state to where the parameters are, but for what it wants on the CPU
        self.optimizer_.load_state_dict(self.optimizer_.state_dict())

    def copied(self) -> "PretextNet":
        """A copy of all but the user's callbacks, which may hold open files."""
        return copy.deepcopy(self, {id(callback): callback for _, callback in self.callbacks_})

    def __getstate__(self) -> dict[str, Any]:
        """All tensors on the CPU, so that any machine can load them."""
        if torch.device(self.device).type == "cpu":
            return self.__dict__.copy()
        module, optimizer = copy.deepcopy((self.module_, self.optimizer_))
        there = type(self).__new__(type(self))
        there.__dict__.update(self.__dict__, module=module, module_=module, optimizer_=optimizer)
        there.move_to(torch.device("cpu"))
        return there.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
