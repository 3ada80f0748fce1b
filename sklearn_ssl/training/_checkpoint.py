"""Checkpoints: everything the next training step depends on, in numbered files of a folder."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout
from sklearn.base import BaseEstimator

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, DeclaredArguments, argument
from sklearn_ssl._utils._messages import failure_named, warn
from sklearn_ssl._utils._storage import DAMAGED, expanded, locked, read_file, write_file
from sklearn_ssl._utils._torch import OwnRandomNumbers, current_processes
from sklearn_ssl.exceptions import CheckpointWarning


class CheckpointFolder(DeclaredArguments, BaseEstimator):
    """Folder and frequency of checkpoints, from which a stopped training run can resume.

    Parameters
    ----------
    folder : str or path
        Folder of the checkpoints of one training run, created if needed.
    every_epochs : int or None, default=1
        Number of epochs between checkpoints. The end of training is always saved.
    every_seconds : float or None, default=None
        Number of seconds between checkpoints, also within an epoch.
    keep : int, default=2
        Number of latest checkpoints to keep.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import CheckpointFolder, SimCLR
    >>> import tempfile
    >>> X = load_digits().images[:128]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     often = CheckpointFolder(folder, every_seconds=60)
    ...     ssl = SimCLR(max_epochs=1, random_state=0, checkpoint=often).fit(X)
    ...     again = SimCLR(max_epochs=1, random_state=0, checkpoint=folder).fit(X)  # at once
    >>> bool((ssl.transform(X) == again.transform(X)).all())
    True
    """

    folder: str | os.PathLike = argument(str, os.PathLike, kw_only=False)
    every_epochs: int | None = argument(COUNT, None, default=1)
    every_seconds: float | None = argument(NOT_NEGATIVE, None, default=None)
    keep: int = argument(COUNT, default=2)

    @property
    def path(self) -> Path:
        """Path of the folder."""
        return expanded(self.folder, "checkpoint")

    @contextlib.contextmanager
    def opened(self, training: dict[str, Any], draws: OwnRandomNumbers) -> Iterator["Checkpoints"]:
        """Lock the folder, and yield the checkpoints of a training run.

        Parameters
        ----------
        training : dict of str to object
            Values that identify the training run.
        draws : OwnRandomNumbers
            Random number generators of the run.

        Raises
        ------
        OSError
            If the folder is not writable, or if another process trains with it.
        """
        self._validate_params()
        with contextlib.ExitStack() as stack:
            current_processes().first(lambda: stack.enter_context(self._locked()))
            yield Checkpoints(self, training, draws)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with locked(self.path, self.path / ".lock", "checkpoints", wait=False):
                yield
        except Timeout as error:
            raise OSError(
                f"another process trains with checkpoints in {self.path}; use a separate folder "
                "for each training run"
            ) from error

    def files(self) -> list[Path]:
        """Return the paths of the checkpoints, latest first."""
        return sorted(self.path.glob("step-*.safetensors"), reverse=True)

    def read(self) -> Any:
        """Read the latest undamaged checkpoint; return None if there are no checkpoints.

        Raises
        ------
        ValueError
            If all are damaged.
        """
        damaged = []
        for file in self.files():
            try:
                values = read_file(file)
            except ValueError as error:
                damaged.append(str(error))
                continue
            if damaged:
                warn(f"{damaged[0]}; resuming from {file.name}", CheckpointWarning)
            return values
        if damaged:
            raise ValueError(f"{damaged[0]}; delete {self.path} to start over")
        return None

    def write(self, step: int, values: Any) -> None:
        """Write a checkpoint, and delete the oldest ones.

        Raises
        ------
        OSError
            If it cannot be written; earlier checkpoints stay intact.
        """
        with failure_named("a checkpoint cannot be written: {}", self.path):
            write_file(self.path / f"step-{step:010d}.safetensors", values)
        for old in self.files()[self.keep :]:
            old.unlink(missing_ok=True)


_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")  # hashes of images, files and code


@dataclass
class Checkpoints:
    """Checkpoints of one training run; with several processes, the first one writes them.

    Parameters
    ----------
    checkpoint : CheckpointFolder
        Folder and frequency; the folder is locked.
    training : dict of str to object
        Values that identify the training run.
    draws : OwnRandomNumbers
        Random number generators of the run.
    """

    checkpoint: CheckpointFolder
    training: dict[str, Any]
    draws: OwnRandomNumbers
    epochs_since: int = 0
    written: float = field(default_factory=time.monotonic)

    def resume(self, net: Any, epochs: int, n_images: int) -> int:
        """Load the last checkpoint into the net, and return the number of epochs left.

        Raises
        ------
        ValueError
            If the checkpoints are from another training run, or do not fit the net.
        """
        state = current_processes().first(self.checkpoint.read)
        if state is None:
            current_processes().first(lambda: self.write(net))  # to fail now if the disk is full
            return epochs
        self._compare(state)
        try:
            return self._take(net, state, epochs, n_images)
        except DAMAGED as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(
                f"the checkpoints in {self.checkpoint.path} do not fit this training run: "
                f"{kind}{error}; delete them to start over"
            ) from error

    def _take(self, net: Any, state: dict[str, Any], epochs: int, n_images: int) -> int:
        net.module_.load_state_dict(state["module"])
        done = len(state["history"]) - len(net.history)
        begun = done + (state["epoch"] is not None)
        timed = net.progress_.steps is None
        if begun > epochs:
            raise ValueError(f"they have {begun} epochs, which is more than max_epochs={epochs}")
        net.restore(state)
        self.draws.set_state(state["generators"])
        for name, callback in net.callbacks_:
            if name in state["callbacks"] and _has_state(callback):
                callback.restore_checkpoint_state(state["callbacks"][name])
        spent = sum(row["seconds"] for row in net.history[len(net.history) - done :])
        if state["epoch"] is not None:
            spent += net.resume_epoch(state["epoch"], n_images)
        net.progress_.resume(state["steps"], spent, state.get("timetable", [(0, 0.0)]))
        stopped = state["finished"] and (timed or done < state["training"]["max_epochs"])
        return 0 if stopped else epochs - done

    def _compare(self, state: Any) -> None:
        found = state.get("training") if isinstance(state, dict) else None
        other = found if isinstance(found, dict) else {}
        # with a constant schedule, every run is the beginning of longer ones
        free = {"max_epochs"} if self.training.get("schedule") == "constant" else set()
        differences = [
            f"{name} was {other.get(name)!r} and is {self.training.get(name)!r}"
            for name in {**other, **self.training}
            if name not in {*free, "pixels"} and other.get(name) != self.training.get(name)
        ]
        pairs = zip(other.get("pixels", ()), self.training["pixels"], strict=False)
        if not differences and any(None not in pair and len(set(pair)) > 1 for pair in pairs):
            differences = ["images have different pixels"]  # an unreadable file matches any image
        if differences:
            differences = [_DIGEST.sub(r"\1...", difference) for difference in differences]
            raise ValueError(
                f"the checkpoints in {self.checkpoint.path} are from another training run: "
                f"{'; '.join(differences)}. Resume with the same arguments and images, or use "
                "another folder"
            )

    def write_if_due(self, net: Any, epoch: Any, now: bool) -> None:
        """Write a checkpoint if one is due; ``epoch`` is None between epochs."""
        every, seconds = self.checkpoint.every_epochs, self.checkpoint.every_seconds
        self.epochs_since += epoch is None
        due = every is not None and self.epochs_since >= every
        late = seconds is not None and time.monotonic() - self.written >= seconds
        if now or due or late:
            self.write(net, epoch)

    def write(self, net: Any, epoch: Any = None, finished: bool = False) -> None:
        """Write a checkpoint; ``epoch`` is the one in progress, if any."""
        if current_processes().rank:
            return
        rows = list(net.history)
        begun = None
        if epoch is not None:
            rows = rows[:-1]
            begun = {"order": epoch.order, "columns": epoch.columns(), "seconds": epoch.seconds}
        values = {
            "training": self.training,
            "finished": finished,
            "steps": net.progress_.done,
            "timetable": net.progress_.timetable,
            "history": [dict(row) for row in rows],
            "module": dict(net.module_.state_dict()),
            "optimizer": net.optimizer_.state_dict(),
            "generators": self.draws.state(),
            "callbacks": {n: cb.checkpoint_state() for n, cb in net.callbacks_ if _has_state(cb)},
            "epoch": begun,
        }
        self.checkpoint.write(net.progress_.done, values)
        self.epochs_since, self.written = 0, time.monotonic()


def _has_state(callback: Any) -> bool:
    """Return whether a callback has the methods by which its state is saved and restored."""
    methods = ("checkpoint_state", "restore_checkpoint_state")
    return all(hasattr(callback, method) for method in methods)
