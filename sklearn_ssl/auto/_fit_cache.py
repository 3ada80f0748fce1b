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
    with opened_result(memory, key_of(what)) as folder:
        found = _read(folder / _FILE)
        if found is None:
            features = fit()
            fitted = {n: v for n, v in vars(estimator).items() if n not in estimator._arguments}
            few = features if features.nbytes <= _MOST_BYTES else None
            with _warned_of("be written"), replaced(folder / _FILE, synced=False) as beside:
                joblib.dump((fitted, few), beside)
            return features
    for name in [n for n in vars(estimator) if n not in estimator._arguments]:
        delattr(estimator, name)
    vars(estimator).update(found[0])
    return encode() if found[1] is None else found[1]


def _read(file: Path) -> Any:
    """Read a fit; return None if there is none, or with a warning if it is damaged."""
    with _warned_of("be read"), contextlib.suppress(FileNotFoundError):
        return joblib.load(file)
    return None


@contextlib.contextmanager
def _warned_of(failing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, EOFError, pickle.PickleError, *DAMAGED) as error:
        warn(
            f"the fit cached in memory= cannot {failing} ({type(error).__name__}: {error}); it "
            "is fitted anew when it is needed",
            MemoryWarning,
        )
