"""Checkpoint of a fit of AutoFeatures: a folder with its plan, its time and the fitted parts."""

import time
from pathlib import Path
from typing import Any

from sklearn_ssl._utils._saving import packed_argument, unpacked_argument
from sklearn_ssl._utils._storage import read_file, write_file
from sklearn_ssl.contrastive import SimCLR
from sklearn_ssl.fixed import ColorHistogram, PatchDictionary, PixelFeatures, PretrainedEncoder
from sklearn_ssl.training import CheckpointFolder
from sklearn_ssl.views import Views

_SECONDS = 60.0  # between two checkpoints of a learner
_PARTS = (ColorHistogram, PatchDictionary, PixelFeatures, PretrainedEncoder, SimCLR, Views)
_CLASSES = {cls.__name__: cls for cls in _PARTS}


class FitCheckpoint:
    """Checkpoint of a fit: a folder with its plan, the time it took so far, and fitted parts.

    Parameters
    ----------
    path : Path
    fit : dict of str to str
        Values that identify the fit.
    began : float
        Time of the monotonic clock when the fit began; earlier once a fit is resumed.
    """

    def __init__(self, path: Path, fit: dict[str, str], began: float):
        self.path = path
        self.fit = fit
        self.began = began

    @property
    def exists(self) -> bool:
        """Return whether the folder has a plan."""
        return self._file.exists()

    @property
    def _file(self) -> Path:
        return self.path / "plan.safetensors"

    def read(self) -> tuple[dict[str, Any], float | None]:
        """Return the plan, and the time at which its learner has to end if that is not in it.

        Raises
        ------
        ValueError
            If the folder is from another fit.
        """
        found = read_file(self._file)
        if found["fit"] != self.fit:
            differences = [
                f"{name} was {found['fit'].get(name)} and is {value}"
                for name, value in self.fit.items()
                if found["fit"].get(name) != value
            ]
            raise ValueError(
                f"{self.path} has another fit: {'; '.join(differences)}. Resume with the same "
                "arguments and images, or use another folder"
            )
        self.began -= found["seconds"]
        end = found["end"]
        plan = unpacked_argument(found["plan"], _CLASSES)
        return plan, None if end is None else self.began + end

    def write(self, plan: dict[str, Any], deadline: float | None) -> None:
        """Write the plan; ``deadline`` is None once the learner's ``time_budget`` is in it."""
        values = {
            "fit": self.fit,
            "plan": packed_argument(plan),
            "seconds": time.monotonic() - self.began,
            "end": None if deadline is None else deadline - self.began,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        write_file(self._file, values)

    def save_part(self, part: Any, name: str) -> None:
        """Write a fitted part."""
        write_file(self.path / f"{name}.safetensors", part._state())

    def restore_part(self, part: Any, name: str) -> bool:
        """Restore a fitted part, and return whether there is one."""
        file = self.path / f"{name}.safetensors"
        if not file.exists():
            return False
        part._restore(read_file(file))
        return True

    def of_learner(self) -> CheckpointFolder:
        """Return the folder for checkpoints of the learner."""
        return CheckpointFolder(self.path / "learner", every_seconds=_SECONDS)
