"""Conversion of estimators to values that a file can store, and back."""

import importlib
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._estimators import DeclaredArguments, name_of_code, plain
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import place_for, write_file
from sklearn_ssl.exceptions import FileFormatWarning

FORMAT = 1  # version of the file format; this package cannot read higher ones
_OTHER_FORMATS = {  # how to write them, by file extension
    **dict.fromkeys((".joblib", ".pickle", ".pkl"), "joblib.dump(learner, path)"),
    **dict.fromkeys((".pt", ".pth"), "torch.save(learner.backbone_state_dict(), path)"),
    ".onnx": "learner.export_onnx(path)",
    ".skops": "skops.io.dump(learner, path)",
}
_WRITES = "memory"  # argument of scikit-learn's pipelines with a path to write to
_PLAIN = (bool, int, float, str, type(None))

Rebuild = Callable[..., Any]  # rebuilds from a ``_state`` and estimators that may provide code


class SavedMixin(BaseEstimator):
    """Mixin that adds ``save`` to estimators of arrays, numbers, text and other estimators.

    Estimators with a network override ``_state`` and ``_restore``.
    """

    _arguments: Any

    def save(self, path: str | os.PathLike) -> None:
        """Save the fitted estimator to one file, which :func:`sklearn_ssl.load` reads.

        The file is in safetensors format, with everything but tensors as JSON in its header.
        Reading it runs no code. It contains what predictions, features and a continued fit need.
        Arguments that are code (an encoder class, callbacks, a splitter) are stored only by name;
        pass them again to ``load``. Folders to write to (``memory``, ``checkpoint``,
        ``decoded_cache``) are not stored.

        Parameters
        ----------
        path : str or path
            File to write. An existing file is replaced once the new one is complete, and stays if
            writing fails. The folder is created if needed.

        Raises
        ------
        TypeError
            If the estimator contains one from outside this package that does not consist of arrays
            and numbers, such as a decision tree.
        OSError
            If the file cannot be written.

        Warns
        -----
        FileFormatWarning
            If the file name has the extension of another format, such as ``".pkl"``.
        """
        check_is_fitted(self)
        place = place_for(path)
        if other := _OTHER_FORMATS.get(place.suffix.lower()):
            warn(
                f"{place.name} is written in safetensors format, for sklearn_ssl.load; name it "
                f"{place.stem}.safetensors, or use {other} to write the format of its extension",
                FileFormatWarning,
            )
        write_file(place, self._state())

    def _state(self) -> dict[str, Any]:
        """Return the arguments and the learned attributes."""
        return {
            **described(self),
            "attributes": {name: _packed_value(v) for name, v in self._learned_values().items()},
        }

    def _learned_values(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._arguments}

    def _restore(self, values: dict[str, Any], rebuild: Rebuild) -> Self:
        """Restore what :meth:`_state` returned, except the arguments."""
        self._validate_params()
        lenders = [v for v in self.get_params().values() if isinstance(v, DeclaredArguments)]
        for name, value in values["attributes"].items():
            if not name.isidentifier() or hasattr(type(self), name):
                raise ValueError(f"{name!r} is not a learned attribute of {type(self).__name__}")
            self.__dict__[name] = _unpacked_value(value, lambda v: rebuild(v, lenders))
        return self


def described(estimator: Any) -> dict[str, Any]:
    """Return an estimator's class and arguments, as values for a file.

    Arguments with a path to write to are left out; of those that are code, only the name is stored.
    """
    arguments: dict[str, Any] = {}
    code: dict[str, str] = {}
    for name, known in estimator._arguments.items():
        if not known["writes"]:
            value = getattr(estimator, name)
            try:
                arguments[name] = packed_argument(value)
            except TypeError:
                code[name] = name_of_code(value)
    return {
        "format": FORMAT,
        "version": version("sklearn-ssl"),
        "class": type(estimator).__name__,
        "arguments": arguments,
        "code": code,
    }


def packed_argument(value: Any) -> Any:
    """Convert an argument to types that can be stored; raise TypeError for code."""
    value = plain(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(map(packed_argument, value))
    if isinstance(value, dict):
        return {plain(key): packed_argument(item) for key, item in value.items()}
    if isinstance(value, (torch.device, os.PathLike)):
        return str(value)
    if isinstance(value, DeclaredArguments):
        arguments = {
            name: packed_argument(getattr(value, name))
            for name, known in value._arguments.items()
            if not known["writes"]
        }
        return {"class": type(value).__name__, "arguments": arguments}
    if _is_of_sklearn(type(value)):
        params = value.get_params(deep=False).items()
        return {
            "sklearn": name_of_code(value),
            "arguments": {n: packed_argument(item) for n, item in params if n != _WRITES},
        }
    raise TypeError(f"{value!r} is code")


def unpacked_arguments(
    kind: Any, packed: dict[str, Any], classes: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a class, without those with a path to write to."""
    known = getattr(kind, "_arguments", {_WRITES: {"writes": True}})
    return {
        name: unpacked_argument(value, classes)
        for name, value in packed.items()
        if not known.get(name, {"writes": False})["writes"]
    }


def unpacked_argument(value: Any, classes: dict[str, Any]) -> Any:
    """Unpack an argument; ``classes`` are those that a file may name."""
    if isinstance(value, (list, tuple)):
        return type(value)(unpacked_argument(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    for kind, find in (("class", classes.__getitem__), ("sklearn", _sklearn_class)):
        if value.keys() == {kind, "arguments"} and isinstance(value[kind], str):
            found = find(value[kind])
            return found(**unpacked_arguments(found, value["arguments"], classes))
    return {name: unpacked_argument(item, classes) for name, item in value.items()}


def _packed_value(value: Any) -> Any:
    """Pack a learned value; one-key dictionaries stand for values that are not plain."""
    if isinstance(value, np.ndarray):
        return _packed_array(value)
    value = plain(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(map(_packed_value, value))
    if type(value) is dict:
        return {"dict": [(_packed_value(key), _packed_value(v)) for key, v in value.items()]}
    if isinstance(value, DeclaredArguments) and not is_fitted(value):
        return {"estimator": {**described(value), "fitted": False}}
    if hasattr(value, "_state"):
        return {"estimator": value._state()}
    if _is_of_sklearn(type(value)):
        return {"sklearn": (name_of_code(value), _packed_value(value.__getstate__()))}
    raise TypeError(
        f"{value!r} cannot be saved: a file can store arrays, numbers, text, and estimators made "
        "of these; use pickle, joblib or skops instead"
    )


def _unpacked_value(value: Any, rebuild: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_unpacked_value(item, rebuild) for item in value)
    if not isinstance(value, dict):
        return value
    [(kind, inside)] = value.items()
    if kind == "array":
        return _unpacked_array(*inside)
    if kind == "dict":
        return {_unpacked_value(k, rebuild): _unpacked_value(v, rebuild) for k, v in inside}
    if kind == "estimator":
        return rebuild(inside)
    if kind == "sklearn":
        made = _sklearn_class(inside[0])
        made = made.__new__(made)
        made.__setstate__(_unpacked_value(inside[1], rebuild))  # warns if the version differs
        return made
    raise ValueError(f"unknown kind of value: {kind!r}")


def is_fitted(estimator: Any) -> bool:
    """Return whether an estimator is fitted; stateless ones always are."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _packed_array(array: np.ndarray) -> dict[str, Any]:
    """Pack an array with its dtype and memory order, which affect low-order bits of products."""
    by_columns = array.ndim > 1 and array.strides[0] < array.strides[-1]
    if array.dtype.kind not in "biuf":
        values = array.tolist()
        if array.dtype.kind not in "UO" or array.ndim != 1:
            raise TypeError(f"an array of dtype {array.dtype} cannot be saved")
        return {"array": (list(map(_packed_value, values)), array.dtype.str, False)}
    values = np.ascontiguousarray(array.T if by_columns else array)
    tensor = torch.from_numpy(values.reshape(array.T.shape if by_columns else array.shape).copy())
    return {"array": (tensor, array.dtype.str, by_columns)}


def _unpacked_array(values: Any, dtype: str, by_columns: bool) -> np.ndarray:
    if np.dtype(dtype).kind not in "biufUO":
        raise ValueError(f"unsupported dtype of an array: {dtype}")
    array = np.array(values, dtype=dtype) if isinstance(values, list) else values.numpy()
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"an array has dtype {array.dtype}, not {dtype}")
    return array.T if by_columns else array


def _is_of_sklearn(cls: type) -> bool:
    return issubclass(cls, BaseEstimator) and cls.__module__.startswith("sklearn.")


def _sklearn_class(path: str) -> Any:
    """Return the class of a scikit-learn estimator; no other code is imported."""
    module, _, name = path.rpartition(".")
    if not module.startswith("sklearn.") or ".tests" in module:
        raise ValueError(f"{path} is not a scikit-learn class")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and _is_of_sklearn(found)):
        raise ValueError(f"{path} is not a scikit-learn estimator")
    return found
