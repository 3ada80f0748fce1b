"""Training loop: a skorch net whose steps leave everything on the device."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import skorch
import torch
from torch import Tensor, nn

from sklearn_ssl._utils._device import (
    autocast,
    deterministic_kernels,
    freed_memory_kept,
    interrupts_deferred,
    synchronize,
)
from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl.exceptions import DivergenceError, ImageReadError, TrainingInterrupted
from sklearn_ssl.images import Images
from sklearn_ssl.metrics import feature_spread
from sklearn_ssl.nn import make_optimizer, parameter_groups, warmup_cosine
from sklearn_ssl.training._batches import Batches
from sklearn_ssl.training._callbacks import StopTraining
from sklearn_ssl.training._checkpoints import Checkpoints, Epoch
from sklearn_ssl.training._freezing import held, lr_scales
from sklearn_ssl.training._module import PretextModule
from sklearn_ssl.training._progress import Progress
from sklearn_ssl.training._state import StateMixin

__all__ = ["PretextNet"]


class PretextNet(StateMixin, skorch.NeuralNet):
    """skorch's loop for a pretext task: no labels, no validation split, no sync within an epoch.

    Callbacks, history, ``save_params`` and ``load_params`` are skorch's; to fit and to give
    features is left to the learner. ``valid_loss`` in the history is the ``train_loss``, for
    callbacks that monitor it by default.

    Parameters
    ----------
    module : PretextModule
    optimizer : str, type or callable
        As of the learners.
    weight_decay : float
    warmup : float
        Share of the steps in which the learning rate rises; a cosine follows.
    precision, deterministic, frozen_epochs, trainable_layers, frozen_batch_norm, layer_decay
        As of the learners.
    **options
        Of :class:`skorch.NeuralNet`: ``lr``, ``batch_size``, ``device``, ``callbacks``.
    """

    module_: Any

    def __init__(
        self,
        module: PretextModule,
        *,
        optimizer: Any = "adamw",
        weight_decay: float = 0.0,
        warmup: float = 0.0,
        precision: str = "auto",
        deterministic: bool = True,
        frozen_epochs: int = 0,
        trainable_layers: int | None = None,
        frozen_batch_norm: bool = False,
        layer_decay: float = 1.0,
        **options: Any,
    ):
        self.frozen_epochs = frozen_epochs
        self.trainable_layers = trainable_layers
        self.frozen_batch_norm = frozen_batch_norm
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.precision = precision
        self.deterministic = deterministic
        options |= {"criterion": nn.Identity, "train_split": None, "iterator_train": Batches}
        super().__init__(module, optimizer=optimizer, **options)

    @property
    def encoder(self) -> Any:
        """Encoder that is trained."""
        return self.module_.task.encoder

    # What skorch builds

    def initialize_module(self):
        super().initialize_module()
        for p in self.module_.parameters():
            if p.ndim == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        return self

    def initialize_optimizer(self, triggered_directly=None):
        scales = lr_scales(self.encoder, self.layer_decay)
        groups = parameter_groups(self.module_, self.weight_decay, scales)
        self.optimizer_ = make_optimizer(self.optimizer, groups, self.lr, self.weight_decay)
        return self

    def get_default_callbacks(self):
        return []

    def get_iterator(self, dataset, training=False):
        zoom = self.module_.task.zoom_for(dataset.shape)
        return Batches(dataset, self.batch_size, torch.device(self.device), zoom)

    def _of_the_learner(self, *_args, **_kwargs):
        raise TypeError(
            "net_ is trained and applied by its learner: use the learner's fit, partial_fit and "
            "transform, or the torch modules net_.encoder and net_.module_"
        )

    fit = partial_fit = forward = forward_iter = predict = predict_proba = _of_the_learner

    # The loop

    def train(
        self,
        images: Images,
        epochs: int,
        draws: AbstractContextManager,
        *,
        read: Callable[[Any], Images],
        seconds: float | None = None,
        constant_lr: bool = False,
        watchers: Sequence = (),
        checkpoints: Checkpoints | None = None,
        skips: bool = False,
    ) -> None:
        """Train for ``epochs`` or ``seconds`` more, like skorch's loop except for five things.

        Random numbers come from ``draws``; Ctrl-C takes effect between steps; schedules run once
        over this training (or stay at their start: ``constant_lr``); ``watchers`` are removed at
        the end; and what ``checkpoints`` hold of it is not done again. Callbacks read images of
        their own by ``read_``, as the learner reads those that it is applied to. An error about a
        file advises ``on_error="skip"``, unless the learner ``skips`` files already.

        Raises
        ------
        TrainingInterrupted
            After Ctrl-C.
        """
        if self.lr > torch.finfo(torch.float32).max:
            raise DivergenceError(f"lr={self.lr} is more than float32 can hold; try a smaller lr")
        steps = epochs * max(1, len(images) // self.batch_size)
        self.callbacks_: list
        self.progress_, self.constant_lr_ = Progress(steps, seconds), constant_lr
        self.begun_, self.checkpoints_, self.epochs_before_ = None, checkpoints, len(self.history)
        if seconds is not None:
            epochs = sys.maxsize
        if checkpoints is not None:
            epochs = checkpoints.resume(self, epochs, len(images))
        current_ranks().share(self.module_)
        kept = self.callbacks_
        self.callbacks_ = [*kept, *((f"watcher{i}", cb) for i, cb in enumerate(watchers))]
        self._set_training(False)  # callbacks may look at features
        self.draws_, self.read_, self.skips_ = draws, read, skips
        kernels = deterministic_kernels(torch.device(self.device), self.deterministic)
        try:
            with kernels, freed_memory_kept(), interrupts_deferred() as self.interrupted_:
                self.notify("on_train_begin", X=images, y=None)
                with contextlib.suppress(StopTraining), self._place_told():
                    self.fit_loop(images, epochs=epochs)
                self.notify("on_train_end", X=images, y=None)
                if checkpoints is not None:
                    checkpoints.write(self, finished=True)
                current_ranks().share(self.module_)  # kernels may differ in their last bits
        finally:
            self.callbacks_ = kept
            for name in ("draws_", "read_", "skips_", "interrupted_", "begun_", "checkpoints_"):
                self.__dict__.pop(name, None)  # they belong to this training
            self._set_training(False)

    @contextlib.contextmanager
    def _place_told(self) -> Iterator[None]:
        """Add to errors about files how far the training was."""
        try:
            yield
        except ImageReadError as error:
            advice = "" if self.skips_ else "; on_error='skip' goes on without such files"
            raise ImageReadError(
                f"{error} (in epoch {len(self.history)}, after {self.progress_.done} of "
                f"{self.progress_.steps} steps{advice})"
            ) from error

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; raising KeyboardInterrupt after an epoch ends the training."""
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        stopped = False
        self.on_epoch_end(self, **kwargs)
        for _, callback in self.callbacks_:
            try:
                callback.on_epoch_end(self, **kwargs)
            except KeyboardInterrupt:
                stopped = True
        if current_ranks().any(stopped) or self._time_is_up():
            raise StopTraining
        self._pause()

    def _pause(self, epoch: Epoch | None = None) -> None:
        """Write a checkpoint if one is due, and stop after Ctrl-C; None is between two epochs."""
        interrupted = current_ranks().any(bool(self.interrupted_))
        if self.checkpoints_ is not None:
            self.checkpoints_.write_if_due(self, epoch, now=interrupted)
        if interrupted:
            if epoch is not None:
                self.history.pop()  # its record is not whole
            raise TrainingInterrupted(
                f"the training was interrupted after {self.progress_.done} steps, and "
                f"{len(self.history)} whole epochs"
            )

    def holds_encoder(self) -> bool:
        """Return whether the epoch is one of the first, which train heads only."""
        return len(self.history) - self.epochs_before_ <= self.frozen_epochs

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self._set_training(True)
        trainable = 0 if self.holds_encoder() else self.trainable_layers
        with held(self.module_.task, trainable, self.frozen_batch_norm):
            self._run_epoch(iterator, step_fn)

    def _run_epoch(self, iterator: Batches, step_fn: Callable) -> None:
        epoch, self.begun_ = self.begun_, None
        if epoch is None:
            with self.draws_:
                epoch = Epoch(iterator.draw_order())
        began = time.perf_counter() - epoch.seconds
        self.progress_.start()
        size = iterator.batch_size
        self.history[-1]["batches"] = [{"train_batch_size": size} for _ in epoch.records]
        for batch in iterator.in_order(epoch.order[len(epoch.records) * size :]):
            self.notify("on_batch_begin", batch=batch, training=True)
            lr = self._schedule_lr()
            step = step_fn(batch)
            epoch.records.append(step.pop("terms"))
            epoch.seconds = time.perf_counter() - began
            self.history.record_batch("train_batch_size", len(batch[1]))
            self.notify("on_batch_end", batch=batch, training=True, **step)
            if self._time_is_up():
                break
            if len(epoch.records) < len(iterator):
                self._pause(epoch)
        # from here on values are read from the device
        synchronize(torch.device(self.device))
        epoch.seconds = current_ranks().first(lambda: time.perf_counter() - began)
        columns = {name: v.float().tolist() for name, v in epoch.columns().items()}
        self._record(columns)
        self.history.record("lr", lr)
        self.history.record("seconds", epoch.seconds)
        self.history.record("images", len(epoch.records) * size)
        self.history.record("images_per_second", len(epoch.records) * size / epoch.seconds)
        spread = self._feature_spread(*batch)
        self.history.record("feature_spread", spread)
        self._check_finite("pretext loss", self.history[-1, "train_loss"])
        self._check_finite("spread of the features", spread)  # after the epoch's last step

    def _record(self, columns: dict[str, list[float]]) -> None:
        """Record the values of batches, and their means for the epoch, by skorch's names."""
        for batch, loss in zip(self.history[-1, "batches"], columns["loss"], strict=True):
            batch["train_loss"] = loss
        earlier = [row["train_loss"] for row in self.history[:-1]]
        for name, values in columns.items():
            mean = sum(values) / len(values)
            if name != "loss":
                self.history.record(name, mean)
                continue
            for alias in ("train_loss", "valid_loss"):
                self.history.record(alias, mean)
                self.history.record(f"{alias}_best", mean <= min(earlier, default=math.inf))

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergenceError(
                f"the {what} became {value} in epoch {len(self.history)}. Try a smaller lr "
                f"(it is {self.lr}), a longer warmup (it is {self.warmup}) or "
                f"precision='float32' (it is {self.precision!r})"
            )

    def epochs(self) -> list[dict[str, Any]]:
        """Return the record of each epoch, without single batches and skorch's own entries."""
        own = ("batches", "train_loss_best", "valid_loss", "valid_loss_best")
        return [{k: v for k, v in row.items() if k not in own} for row in self.history]

    def train_step_single(self, batch, **fit_params):
        mode = autocast(batch[0].device, self.precision)
        with self.draws_, mode, current_ranks().splitting():
            output = self.module_(*batch)
        if not hasattr(output, "terms"):
            task = type(self.module_.task).__name__
            raise TypeError(f"{task}.forward gave {output!r}; it has to give a TaskOutput")
        if not output.loss.requires_grad:
            raise ValueError("nothing is left to train: frozen_epochs or trainable_layers hold all")
        output.loss.backward()
        current_ranks().average(self.module_.parameters())
        return {"loss": output.loss, "y_pred": output.loss.detach(), "output": output}

    def train_step(self, batch, **fit_params):
        step = super().train_step(batch, **fit_params)
        output = step.pop("output")
        self.progress_.done += 1
        progress = None if self.constant_lr_ else self.progress_.share
        with self.draws_:
            self.module_.task.after_step(output, progress)
        terms = {name: torch.as_tensor(term).detach() for name, term in output.terms.items()}
        return step | {"terms": {**terms, "loss": output.loss.detach()}}

    def _time_is_up(self) -> bool:
        return self.progress_.seconds is not None and self.progress_.is_over

    def _schedule_lr(self) -> float:
        share = self.progress_.middle
        lr = self.lr * (1.0 if self.constant_lr_ else warmup_cosine(share, self.warmup))
        for group in self.optimizer_.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr

    @torch.no_grad()
    def _feature_spread(self, pixels: Tensor, _index: Tensor, *sizes: Tensor) -> float:
        self._set_training(False)
        with autocast(pixels.device, self.precision), current_ranks().splitting():
            features = self.encoder.embed(self.module_.images(pixels, *sizes))
        return feature_spread(features) if features.isfinite().all() else math.nan
