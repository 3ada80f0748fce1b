"""Results that are kept in a folder for later, also for other processes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from joblib import Memory

from sklearn_ssl._utils._storage import expanded

__all__ = ["Kept", "key_of"]


def key_of(values: Any) -> str:
    """Return a digest of plain values: 32 digits, equal for equal values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Kept:
    """Folders of results, each under the key of what it was computed from.

    They lie where joblib has its own, so that ``joblib.Memory(...).reduce_size()`` deletes those
    that were used longest ago.

    Parameters
    ----------
    memory : str, path or joblib.Memory
    """

    def __init__(self, memory: str | os.PathLike | Memory):
        location = memory.location if isinstance(memory, Memory) else memory
        self.folder = expanded(location, "memory") / "joblib" / "sklearn_ssl"

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Path]:
        """Lock the folder of a key: others wait until this is left, or until the process ends.

        Raises
        ------
        OSError
            If it cannot be written to.
        """
        folder, locks = self.folder / key, self.folder / "locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            (locks / key).touch()
        except OSError as error:
            raise OSError(
                error.errno, f"memory cannot be written: {error.strerror}", str(self.folder)
            ) from error
        with FileLock(locks / key):
            folder.mkdir(exist_ok=True)
            for part in folder.glob(".*.part"):  # of a process that was killed
                part.unlink(missing_ok=True)
            os.utime(folder)  # it is used
            try:
                yield folder
            finally:
                with contextlib.suppress(OSError):  # with something in it, it stays
                    folder.rmdir()
