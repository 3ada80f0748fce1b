"""Cache of whole fits (``memory=``): the fitted attributes, and the features that were returned."""

import contextlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import DAMAGED, key_of, opened_result, replaced
from sklearn_ssl.exceptions import MemoryWarning

_MOST_BYTES = 2**30  # of features that are stored
_FILE = "fit.joblib"


def cached_fit(
    estimator: Any,
    memory: Any,
    what: dict[str, Any],
    fit: Callable[[], np.ndarray],
    encode: Callable[[], np.ndarray],
) -> np.ndarray:
    """Return the features of a fit, from the cache if there is an equal one.

    Parameters
    ----------
    estimator : estimator
        Its fitted attributes are stored, or restored.
    memory : str, path or joblib.Memory
    what : dict of str to plain values
        Everything that a fit depends on, but the time.
    fit : callable
        Fits the estimator, and returns features.
    encode : callable
        Returns the same features once the estimator is fitted.
    """
    with contextlib.ExitStack() as stack:
        folder = None
        with _warned_of("written", OSError):  # for example, the folder cannot be created
            folder = stack.enter_context(opened_result(memory, key_of(what)))
        found = None if folder is None else _read(folder / _FILE)
        if found is None:
            features = fit()
            # files that cannot be read now may be readable next time
            if folder is not None and np.isfinite(features).all():
                few = features if features.nbytes <= _MOST_BYTES else None
                with (
                    _warned_of("written", *DAMAGED, OSError),
                    replaced(folder / _FILE, synced=False) as beside,
                ):
                    joblib.dump((_fitted(estimator), few), beside)
            return features
    for name in _fitted(estimator):
        delattr(estimator, name)
    vars(estimator).update(found[0])
    return encode() if found[1] is None else found[1]


def _fitted(estimator: Any) -> dict[str, Any]:
    """Return what a fit sets: no arguments, and no settings such as those of ``set_output``."""
    others = {*estimator._arguments, "_sklearn_output_config", "_metadata_request"}
    return {name: value for name, value in vars(estimator).items() if name not in others}


def _read(file: Path) -> Any:
    """Read a fit; return None if there is none, or with a warning if it is damaged."""
    errors = (OSError, EOFError, pickle.PickleError, *DAMAGED)
    with _warned_of("read", *errors), contextlib.suppress(FileNotFoundError):
        return joblib.load(file)
    return None


@contextlib.contextmanager
def _warned_of(failing: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        warn(
            f"the cache of fits, memory=, cannot be {failing} ({type(error).__name__}: {error}); "
            "AutoFeatures is fitted anew when it is needed",
            MemoryWarning,
        )
