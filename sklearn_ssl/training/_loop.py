"""Training loop: a skorch net that does not wait for the device within an epoch."""

import bisect
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import skorch
import torch
from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._torch import (
    OwnRandomNumbers,
    autocast,
    current_processes,
    deterministic_kernels,
    evaluation,
    freed_memory_reused,
    interrupts_deferred,
    synchronize,
)
from sklearn_ssl.exceptions import (
    BusyMachineWarning,
    DivergenceError,
    ImageReadError,
    TrainingInterrupted,
)
from sklearn_ssl.images import Images
from sklearn_ssl.metrics import feature_spread
from sklearn_ssl.nn import (
    ChannelScaling,
    MomentumCopy,
    make_optimizer,
    parameter_groups,
    warmup_cosine,
)
from sklearn_ssl.training._pickling import StateMixin
from sklearn_ssl.views import CenteredImages


class Progress:
    """Progress of a training run, by steps or by time.

    A timed run is planned in legs. At the end of each, the speed so far says how many more steps
    there will be, and the next leg is a twentieth of them. With the timetable of a timed run,
    another run repeats its schedule without a clock.

    Parameters
    ----------
    steps : int
        Total number of steps; ignored with ``seconds`` or a ``timetable``.
    seconds : float, optional
        Length of the run, from the creation of this object.
    timetable : list of (int, float), optional
        Number of steps and share of the run at the end of each leg of an earlier timed run.

    Attributes
    ----------
    done : int
        Number of steps so far.
    """

    def __init__(
        self,
        steps: int,
        seconds: float | None = None,
        timetable: Sequence[tuple[int, float]] = (),
    ):
        self.done = 0
        self.seconds = None if timetable else seconds
        self.timetable = list(timetable or ([] if seconds is None else [(0, 0.0)]))
        self.steps = None if self.timetable else steps
        self.began = time.monotonic()
        self.first: tuple[int, float] | None = None  # steps and seconds when this process began

    def resume(self, steps: int, seconds: float, timetable: Sequence[tuple[int, float]]) -> None:
        """Continue after ``steps`` steps, which took ``seconds`` seconds."""
        self.done = steps
        self.began -= seconds
        if self.seconds is not None:
            self.timetable = list(timetable)

    def start(self) -> None:
        """Record the start of this process's first step; later calls change nothing."""
        if self.first is None:
            self.first = self.done, time.monotonic() - self.began

    @property
    def share(self) -> float:
        """Share of the training run that is done, from 0 to 1."""
        return self._share_after(self.done)

    @property
    def middle(self) -> float:
        """Share at the middle of the next step, so that neither the first nor the last has lr 0."""
        self._plan()
        return self._share_after(self.done + 0.5)

    @property
    def is_over(self) -> bool:
        """Return whether no step is left, or, by time, less than half a step."""
        if self.steps is not None:
            return self.done >= (self.steps or 1)
        self._plan()
        steps, share = self.timetable[-1]
        return self.done >= steps and (share >= 1 or self.seconds is None)

    def _share_after(self, done: float) -> float:
        if self.steps is not None:
            return done / (self.steps or 1)
        leg = bisect.bisect_left(self.timetable, done, key=lambda leg: leg[0])
        leg = min(leg, len(self.timetable) - 1)
        steps, share = self.timetable[leg]
        if done >= steps:
            return share
        steps_before, before = self.timetable[leg - 1]
        return before + (done - steps_before) / (steps - steps_before) * (share - before)

    def _plan(self) -> None:
        """Plan the next leg at the end of the last one."""
        while self.seconds is not None and self.timetable[-1][1] < 1:
            if self.timetable[-1][0] > self.done:
                return
            # the clock of the first process counts for all, which have to end after the same step
            self.timetable.append(current_processes().first(self._next_leg))

    def _next_leg(self) -> tuple[int, float]:
        """Return the number of steps and the share of the run at the end of the next leg."""
        assert self.seconds is not None
        spent = time.monotonic() - self.began
        (done, before), share = self.first or (self.done, spent), self.timetable[-1][1]
        if self.done == done:  # the speed is not known yet
            return self.done + 1, max(share, min(1.0, spent / self.seconds))
        left = (self.seconds - spent) * (self.done - done) / max(spent - before, 1e-9)
        if left < 1.5:
            return self.done + (left >= 0.5), 1.0
        leg = max(1, min(int(left / 20), (self.done - done) // 4))  # speeds vary at the start
        return self.done + leg, share + (1 - share) * leg / left


def layer_of_parameters(encoder: Any) -> tuple[dict[nn.Parameter, int], int]:
    """Return the index of the first layer that needs each parameter, and the number of layers.

    Nested layers count as part of the outermost one; layers without parameters do not count.
    """
    parameters = list(encoder.parameters())
    trained = [p.requires_grad for p in parameters]
    height, width, channels = encoder.image_shape
    blank = torch.zeros(1, channels, height, width, device=parameters[0].device)
    found: dict[nn.Parameter, int] = {}
    n_layers = 0
    try:
        encoder.requires_grad_(True)
        with evaluation(encoder), torch.enable_grad():
            for layer in encoder.layers:
                if any(layer.startswith(f"{outer}.") for outer in encoder.layers):
                    continue
                left = [p for p in parameters if p not in found]
                out = encoder.maps(blank, layer)[0].sum()
                gradients = torch.autograd.grad(out, left, allow_unused=True) if left else ()
                needed = [p for p, g in zip(left, gradients, strict=False) if g is not None]
                found |= dict.fromkeys(needed, n_layers)
                n_layers += bool(needed)
    finally:
        for parameter, was in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was)
    return {p: found.get(p, n_layers - 1) for p in parameters}, n_layers


@contextlib.contextmanager
def frozen_parts(
    task: Any, trainable_layers: int | None, batch_norm: bool = False
) -> Iterator[None]:
    """Freeze all but the encoder's last layers, including their batch norm statistics.

    With ``batch_norm``, freeze the statistics of all other batch norms as well. The same norms are
    frozen in EMAs of the encoder, so that targets use the same statistics as predictions. Norms
    stay in evaluation mode until all modules are put into training mode again.
    """
    encoder, frozen = task.encoder, set()
    if trainable_layers is not None:
        layers, n_layers = layer_of_parameters(encoder)
        frozen = {p for p, row in layers.items() if row < n_layers - trainable_layers}
    trained = [p for p in frozen if p.requires_grad]
    norms = [
        name
        for name, part in encoder.named_modules()
        if isinstance(part, _BatchNorm) and (batch_norm or part.weight in frozen)
    ]
    copies = [part.module for part in task.modules() if isinstance(part, MomentumCopy)]
    for network in (encoder, *(copy for copy in copies if type(copy) is type(encoder))):
        for name in norms:
            network.get_submodule(name).eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class PretextModule(nn.Module):
    """Pretext task that scales its input pixels to [0, 1] first."""

    def __init__(self, pixels: ChannelScaling, task: Any):
        super().__init__()
        self.pixels = pixels
        self.task = task

    def images(self, pixels: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Scale pixels to [0, 1]; combine images of several ``sizes`` in ``CenteredImages``."""
        images = self.pixels(pixels)
        if sizes is None:
            return images
        return CenteredImages.of(images, sizes, self.task.encoder.image_shape[:2])

    def forward(self, pixels: Tensor, index: Tensor, sizes: Tensor | None = None) -> Any:
        return self.task(self.images(pixels, sizes), index)


_RESIDENT_SHARE = 0.5  # of the free device memory, which images may occupy
_VALUES_MOVED_AT_ONCE = 2**24


class Batches:
    """Shuffled batches of (images, index) on a device; a smaller last batch is dropped.

    Images that fit into GPU memory are moved there once; others are read ahead in a thread.
    Batches of files are (whole images, index, sizes), see :meth:`Images.take_whole`. With several
    processes, each gets its share of every batch. The index of a skipped file is the index of the
    image that replaces it.

    Parameters
    ----------
    images : Images
    batch_size : int
    device : torch.device
    zoom : float, default=1.0
        Zoom at which files are decoded, see :meth:`PretextTask.zoom_for`.
    """

    def __init__(self, images: Images, batch_size: int, device: torch.device, zoom: float = 1.0):
        self.images = images
        self.zoom = zoom
        self.batch_size = batch_size
        self.device = device
        self.processes = current_processes()
        self.resident = self.shown = None
        if self._fits():
            self.resident = self._move_all()
            rows = np.arange(len(images))
            shown = images.shown_by(rows)
            if (shown != rows).any():
                self.shown = torch.from_numpy(shown).to(device)

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def _fits(self) -> bool:
        if self.device.type == "meta":
            return True
        if self.device.type != "cuda" or self.images.are_files:  # arrays are in host memory already
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.images.nbytes < _RESIDENT_SHARE * free

    def _move_all(self) -> Tensor:
        rows = np.arange(len(self.images))
        first = self.images.take(rows[:1])
        everything = torch.empty(
            (len(rows), *first.shape[1:]),
            dtype=first.dtype,
            device=self.device,
            memory_format=torch.channels_last,
        )
        size = max(1, _VALUES_MOVED_AT_ONCE // math.prod(self.images.shape))
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            everything[start : start + len(chunk)] = self.images.take(chunk).to(self.device)
        return everything

    def draw_order(self) -> Tensor:
        """Draw the rows of an epoch in random order."""
        return torch.randperm(len(self.images))[: len(self) * self.batch_size]

    def in_order(self, order: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of these rows."""
        if self.resident is not None:
            for index in order.to(self.device).split(self.batch_size):
                index = self.processes.own_part(index)
                yield self.resident[index], index if self.shown is None else self.shown[index]
            return
        batches = order.split(self.batch_size)
        for batch in self.images.read_ahead(self._read, batches, in_memory_too=True):
            pinned = self.device.type == "cuda"  # an asynchronous copy needs pinned memory
            yield tuple(part.to(self.device, non_blocking=pinned) for part in batch)

    def _read(self, index: Tensor) -> list[Tensor]:
        """Read a batch in the reader thread; only the main thread uses the device."""
        rows = self.processes.own_part(index).numpy()
        if self.images.are_files:
            images, *sizes = self.images.take_whole(rows, self.zoom)
        else:
            images, sizes = self.images.take(rows), []
        batch = [images, torch.from_numpy(self.images.shown_by(rows)), *sizes]
        return [part.pin_memory() for part in batch] if self.device.type == "cuda" else batch


_CHECK_AFTER = 20.0  # seconds: short runs do not matter, and the load is an average over a minute
_BUSY = 2.0  # runnable threads per core: others use at least half of the cores
_LEAST_SHARE_OF_CORES = 0.6  # a training run that has its cores to itself gets more


class StopTraining(Exception):
    """Signal that training ends after this epoch, at a callback's request or for lack of time."""


class AfterStep(Callback):
    """Callback that calls a function after each step."""

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def on_batch_end(self, net, **kwargs):
        self.function()


class ProgressBar(Callback):
    """Progress bar over all steps of a training run; ``verbose=2`` adds a line per epoch."""

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
        """Close the bar at its current position, leaving its last line on the screen."""
        self.bar.close()


class StopEarly(EarlyStopping):
    """Callback that stops training when a value no longer rises, and restores the best weights.

    Its state is saved in checkpoints, so a resumed run knows the best weights so far.
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

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the state that checkpoints save."""
        names = ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_")
        return {name: value for name, value in vars(self).items() if name in names}

    def restore_checkpoint_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`checkpoint_state` returned, when training begins."""
        self.before = dict(state)


class LoadWatch(Callback):
    """Callback that warns once if other processes slow down training on a CPU.

    It warns if the load of the machine is far above its number of cores, and the threads of this
    process, which only compute, get much less CPU time than they could use.
    """

    began: tuple[float, float] | None = None  # wall time and CPU time; None after the check

    def on_train_begin(self, net, **kwargs):
        self.began = time.monotonic(), time.process_time()

    def on_batch_end(self, net, **kwargs):
        if self.began is None or time.monotonic() - self.began[0] < _CHECK_AFTER:
            return
        (wall, own), self.began = self.began, None
        cores = os.cpu_count() or 1
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
        threads = min(torch.get_num_threads(), cores)
        got = (time.process_time() - own) / (time.monotonic() - wall) / threads
        if load >= _BUSY * cores and got < _LEAST_SHARE_OF_CORES:
            warn(
                f"the load of this machine is {load:.0f} on {cores} cores, and this training run "
                f"gets {100 * got:.0f} % of the {threads} cores it could use: other processes slow "
                "it down, the more so because threads wait for each other. Run fewer processes in "
                "parallel, or give each fewer threads: torch.set_num_threads(1)",
                BusyMachineWarning,
            )


class SklearnCallbacks(Callback):
    """Callback that reports a fit and its epochs through scikit-learn's callback protocol."""

    def __init__(
        self, learner: Any, X: Any, epochs: int | None, fitted: Callable[[], dict[str, Any]]
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


@dataclass
class Epoch:
    """Epoch in progress.

    Parameters
    ----------
    order : Tensor of int
        Rows of the epoch's images, in order.
    records : list of dict of str to scalar Tensor
        Loss terms of each batch so far.
    seconds : float
        Time spent so far.
    """

    order: Tensor
    records: list[dict[str, Tensor]] = field(default_factory=list)
    seconds: float = 0.0

    def columns(self) -> dict[str, Tensor]:
        """Return the values of all records by name."""
        return {name: torch.stack([r[name] for r in self.records]) for name in self.records[0]}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> "Epoch":
        """Make an epoch from its saved order, columns and seconds."""
        columns = {name: values.to(device) for name, values in state["columns"].items()}
        rows = zip(*columns.values(), strict=True)
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        return cls(state["order"], records, state["seconds"])


class PretextNet(StateMixin, skorch.NeuralNet):
    """skorch net for a pretext task: no labels, no validation split, no sync within an epoch.

    Callbacks, history, ``save_params`` and ``load_params`` work as in skorch; fitting and computing
    features are left to the learner. ``valid_loss`` in the history equals ``train_loss``, for
    callbacks that monitor it by default.

    Parameters
    ----------
    module : PretextModule
    optimizer : str, type or callable
        Optimizer, as in learners.
    weight_decay : float
    warmup : float
        Share of the training run in which the learning rate rises, before the cosine.
    precision, deterministic, frozen_epochs, trainable_layers, frozen_batch_norm, layer_decay
        Arguments of learners.
    **options
        Arguments of :class:`skorch.NeuralNet`: ``lr``, ``batch_size``, ``device``, ``callbacks``.
    """

    module_: Any
    resumed_epoch_: Any  # epoch from a checkpoint, to be resumed

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
        """Encoder of the task."""
        return self.module_.task.encoder

    # Overridden parts of skorch

    def initialize_module(self):
        super().initialize_module()
        for p in self.module_.parameters():
            if p.ndim == 4:
                p.data = p.data.to(memory_format=torch.channels_last)
        return self

    def initialize_optimizer(self, triggered_directly=None):
        scales = {}
        if self.layer_decay != 1:
            layers, n_layers = layer_of_parameters(self.encoder)
            scales = {p: self.layer_decay ** (n_layers - row) for p, row in layers.items()}
        groups = parameter_groups(self.module_, self.weight_decay, scales)
        self.optimizer_ = make_optimizer(self.optimizer, groups, self.lr, self.weight_decay)
        return self

    def get_default_callbacks(self):
        return []

    def get_iterator(self, dataset, training=False):
        zoom = self.module_.task.zoom_for(dataset.shape)
        return Batches(dataset, self.batch_size, torch.device(self.device), zoom)

    def _unsupported(self, *_args, **_kwargs):
        raise TypeError(
            "net_ is trained and applied by its learner; use the learner's fit, partial_fit and "
            "transform, or the torch modules net_.encoder and net_.module_"
        )

    fit = partial_fit = forward = forward_iter = predict = predict_proba = _unsupported

    # The loop

    def train(
        self,
        images: Images,
        epochs: int,
        draws: OwnRandomNumbers,
        *,
        read: Callable[[Any], Images],
        seconds: float | None = None,
        timetable: Sequence[tuple[int, float]] = (),
        constant_lr: bool = False,
        watchers: Sequence = (),
        checkpoints: Any = None,
        skips: bool = False,
    ) -> None:
        """Train for ``epochs`` or ``seconds`` more, like skorch's loop with five differences.

        A ``timetable`` is that of an earlier run for some seconds, whose steps are repeated.

        Random numbers come from ``draws``; Ctrl-C takes effect between steps; schedules span this
        run, or stay at their start with ``constant_lr``; ``watchers`` are callbacks of this run
        only; and epochs found in ``checkpoints`` are not repeated. Callbacks read their own images
        with ``read_``, as the learner's ``transform`` would. An error about a file recommends
        ``on_error="skip"``, unless the learner already ``skips`` files.

        Raises
        ------
        TrainingInterrupted
            After Ctrl-C.
        """
        if self.lr > torch.finfo(torch.float32).max:
            raise DivergenceError(f"lr={self.lr} is too large for float32; try a smaller lr")
        steps = epochs * max(1, len(images) // self.batch_size)
        self.callbacks_: list
        self.progress_, self.constant_lr_ = Progress(steps, seconds, timetable), constant_lr
        self.resumed_epoch_, self.checkpoints_ = None, checkpoints
        self.epochs_before_ = len(self.history)
        if self.progress_.steps is None:
            epochs = sys.maxsize
        if checkpoints is not None:
            epochs = checkpoints.resume(self, epochs, len(images))
        current_processes().broadcast(self.module_)
        draws.restart_for(current_processes().rank)
        given = self.callbacks_
        self.callbacks_ = [*given, *((f"watcher{i}", cb) for i, cb in enumerate(watchers))]
        self._set_training(False)  # callbacks may compute features
        self.draws_, self.read_, self.skips_ = draws, read, skips
        kernels = deterministic_kernels(torch.device(self.device), self.deterministic)
        try:
            with kernels, freed_memory_reused(), interrupts_deferred() as self.interrupted_:
                self.notify("on_train_begin", X=images, y=None)
                with contextlib.suppress(StopTraining), self._progress_in_errors():
                    self.fit_loop(images, epochs=epochs)
                self.notify("on_train_end", X=images, y=None)
                if checkpoints is not None:
                    current_processes().first(lambda: checkpoints.write(self, finished=True))
                current_processes().broadcast(self.module_)  # kernels may differ in low-order bits
        finally:
            self.callbacks_ = given
            of_this_run = "draws_ read_ skips_ interrupted_ resumed_epoch_ checkpoints_"
            for name in of_this_run.split():
                self.__dict__.pop(name, None)
            self._set_training(False)

    @contextlib.contextmanager
    def _progress_in_errors(self) -> Iterator[None]:
        """Add the progress of training to errors about files."""
        try:
            yield
        except ImageReadError as error:
            advice = "" if self.skips_ else "; on_error='skip' trains without such files"
            raise ImageReadError(
                f"{error} (in epoch {len(self.history)}, after {self.progress_.done} of "
                f"{self.progress_.steps} steps{advice})"
            ) from error

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call the callbacks; one that raises KeyboardInterrupt after an epoch ends training."""
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
        if current_processes().any(stopped) or self._time_is_up():
            raise StopTraining
        self._pause()

    def _pause(self, epoch: Epoch | None = None) -> None:
        """Write a checkpoint if due, and stop after Ctrl-C; ``epoch`` is None between epochs."""
        interrupted = current_processes().any(bool(self.interrupted_))
        if self.checkpoints_ is not None:
            self.checkpoints_.write_if_due(self, epoch, now=interrupted)
        if interrupted:
            if epoch is not None:
                self.history.pop()  # its record is incomplete
            raise TrainingInterrupted(
                f"training was interrupted after {self.progress_.done} steps and "
                f"{len(self.history)} complete epochs"
            )

    def resume_epoch(self, state: dict[str, Any], n_images: int) -> float:
        """Prepare to resume an epoch from a checkpoint; return the seconds it took so far."""
        epoch = self.resumed_epoch_ = Epoch.of(state, torch.device(self.device))
        order = epoch.order
        if order.ndim != 1 or order.dtype != torch.int64 or len(order.unique()) != len(order):
            raise ValueError("the order of the images does not consist of distinct rows")
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < n_images:
            raise ValueError(f"the order of the images has rows outside of the {n_images} images")
        return epoch.seconds

    def encoder_is_frozen(self) -> bool:
        """Return whether this is one of the ``frozen_epochs``, which train only the heads."""
        return len(self.history) - self.epochs_before_ <= self.frozen_epochs

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        self._set_training(True)
        trainable = 0 if self.encoder_is_frozen() else self.trainable_layers
        with frozen_parts(self.module_.task, trainable, self.frozen_batch_norm):
            self._run_epoch(iterator, step_fn)

    def _run_epoch(self, iterator: Batches, step_fn: Callable) -> None:
        epoch, self.resumed_epoch_ = self.resumed_epoch_, None
        if epoch is None:
            with self.draws_:
                drawn = iterator.draw_order()  # by all processes: their generators advance alike
            epoch = Epoch(current_processes().first(lambda: drawn))
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
            self.history.record_batch("train_batch_size", size)
            self.notify("on_batch_end", batch=batch, training=True, **step)
            if self._time_is_up():
                break
            if len(epoch.records) < len(iterator):
                self._pause(epoch)
        # only from here on are values read from the device
        synchronize(torch.device(self.device))
        epoch.seconds = current_processes().first(lambda: time.perf_counter() - began)
        columns = {
            name: current_processes().mean(values.float()).tolist()
            for name, values in epoch.columns().items()
        }
        self._record(columns)
        self.history.record("lr", lr)
        self.history.record("seconds", epoch.seconds)
        self.history.record("images", len(epoch.records) * size)
        self.history.record("images_per_second", len(epoch.records) * size / epoch.seconds)
        spread = self._feature_spread(*batch)
        self.history.record("feature_spread", spread)
        self._check_finite("pretext loss", self.history[-1, "train_loss"])
        # the last loss is of before the last update
        self._check_finite("spread of the features", spread)

    def _record(self, columns: dict[str, list[float]]) -> None:
        """Record the values of the batches and their means over the epoch, with skorch's names."""
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
        """Return the records of all epochs, without batches and skorch's own entries."""
        own = ("batches", "train_loss_best", "valid_loss", "valid_loss_best")
        return [{k: v for k, v in row.items() if k not in own} for row in self.history]

    def train_step_single(self, batch, **fit_params):
        mode = autocast(batch[0].device, self.precision)
        processes = current_processes()
        with self.draws_, mode, processes.synchronized_norms():
            output = processes.averaging(self.module_)(*batch)
        if not hasattr(output, "terms"):
            task = type(self.module_.task).__name__
            raise TypeError(f"{task}.forward returned {output!r}; it must return a TaskOutput")
        if not output.loss.requires_grad:
            raise ValueError(
                "nothing is left to train: frozen_epochs or trainable_layers freeze everything"
            )
        output.loss.backward()
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
        return self.progress_.steps is None and self.progress_.is_over

    def _schedule_lr(self) -> float:
        share = self.progress_.middle
        lr = self.lr * (1.0 if self.constant_lr_ else warmup_cosine(share, self.warmup))
        for group in self.optimizer_.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr

    @torch.no_grad()
    def _feature_spread(self, pixels: Tensor, _index: Tensor, *sizes: Tensor) -> float:
        self._set_training(False)
        with autocast(pixels.device, self.precision):
            features = self.encoder.embed(self.module_.images(pixels, *sizes))
        features = current_processes().rows_of_all(features, 0)
        return feature_spread(features) if features.isfinite().all() else math.nan
