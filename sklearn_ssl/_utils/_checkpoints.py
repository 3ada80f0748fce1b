"""Numbered files in a folder, of which the last ones are kept: the state of a training."""

import contextlib
import os
from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from sklearn_ssl._utils._arguments import DeclaredArguments, argument
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import expanded, read_file, write_file
from sklearn_ssl.exceptions import CheckpointWarning

__all__ = ["Checkpoint"]

_COUNT = Interval(Integral, 1, None, closed="left")


class Checkpoint(DeclaredArguments, BaseEstimator):
    """Folder and frequency of checkpoints, from which a stopped training run can resume.

    Parameters
    ----------
    folder : str or path
        It is for one training, and made if it is missing.
    every_epochs : int or None, default=1
        Epochs from one checkpoint to the next. The end of a training is always saved.
    every_seconds : float or None, default=None
        Seconds after which one is written within an epoch, too.
    keep : int, default=2
        How many of the last ones are kept.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import Checkpoint, SimCLR
    >>> import tempfile
    >>> X = load_digits().images[:128]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     often = Checkpoint(folder, every_seconds=60)
    ...     ssl = SimCLR(max_epochs=1, random_state=0, checkpoint=often).fit(X)
    ...     again = SimCLR(max_epochs=1, random_state=0, checkpoint=folder).fit(X)  # at once
    >>> bool((ssl.transform(X) == again.transform(X)).all())
    True
    """

    folder: str | os.PathLike = argument(str, os.PathLike, kw_only=False)
    every_epochs: int | None = argument(_COUNT, None, default=1)
    every_seconds: float | None = argument(
        Interval(Real, 0, None, closed="left"), None, default=None
    )
    keep: int = argument(_COUNT, default=2)

    @property
    def path(self) -> Path:
        """Path of the folder."""
        return expanded(self.folder, "checkpoint")

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder for this process, and delete files that were left half written.

        Raises
        ------
        OSError
            If it cannot be written to, or if another process trains in it.
        """
        self._validate_params()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".lock").touch()
        except OSError as error:
            raise _said(error, "checkpoints", self.path) from error
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise OSError(
                f"another process trains with checkpoints in {self.path}; each training needs a "
                "folder of its own"
            ) from error
        try:
            for part in self.path.glob(".*.part"):
                part.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def files(self) -> list[Path]:
        """Return the checkpoints, the latest one first."""
        return sorted(self.path.glob("step-*.safetensors"), reverse=True)

    def read(self) -> Any:
        """Read the latest checkpoint that is not damaged; return None if there are none.

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
                warn(f"{damaged[0]}; going on from {file.name}", CheckpointWarning)
            return values
        if damaged:
            raise ValueError(f"{damaged[0]}; delete {self.path} to train anew")
        return None

    def write(self, step: int, values: Any) -> None:
        """Write a checkpoint, and delete the oldest ones.

        Raises
        ------
        OSError
            If it cannot be written; those before are intact.
        """
        try:
            write_file(self.path / f"step-{step:010d}.safetensors", values)
        except OSError as error:
            raise _said(error, "a checkpoint", self.path) from error
        for old in self.files()[self.keep :]:
            old.unlink(missing_ok=True)


def _said(error: OSError, what: str, path: Path) -> OSError:
    return OSError(error.errno, f"{what} cannot be written: {error.strerror}", str(path))
