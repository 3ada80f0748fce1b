"""Saving of estimators as values for a file: arrays, numbers, text, and estimators in them."""

import importlib
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._estimators import DeclaredArguments, name_of_code, plain
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import place_for, write_file
from sklearn_ssl.exceptions import FileFormatWarning

FORMAT = 1  # of the files; a higher one may hold what this version does not know
_OTHER_FORMATS = {  # by the ending of a name: what writes it
    **dict.fromkeys((".joblib", ".pickle", ".pkl"), "joblib.dump(learner, path)"),
    **dict.fromkeys((".pt", ".pth"), "torch.save(learner.backbone_state_dict(), path)"),
    ".onnx": "learner.export_onnx(path)",
    ".skops": "skops.io.dump(learner, path)",
}
_WRITES = "memory"  # an argument of scikit-learn's pipelines
_PLAIN = (bool, int, float, str, type(None))

Rebuild = Callable[..., Any]  # from what ``_state`` gave, and estimators that may lend their code


class SavedMixin(BaseEstimator):
    """Mixin for ``save``, where attributes are arrays, numbers, text and estimators.

    Estimators with a network override how their state is made and restored.
    """

    _arguments: Any

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted estimator to one file, which :func:`sklearn_ssl.load` reads.

        It is in the format of safetensors, with the rest as JSON in its header. Reading it runs no
        code. It holds what predictions, features and a continued fit need; of arguments that are
        code (an encoder's class, callbacks, a splitter) only the name, so they are given again to
        ``load``. Folders to write to (``memory``, ``checkpoint``, ``decoded_cache``) are not in it.

        Parameters
        ----------
        path : str or path
            What is there is replaced when all is written, or stays if that fails. Its folder is
            made if it is missing.

        Raises
        ------
        TypeError
            If it holds an estimator that is neither of this package nor, as those of trees, made of
            arrays and numbers.
        OSError
            If the file cannot be written.

        Warns
        -----
        FileFormatWarning
            If the name ends like those of another format, as ``".pkl"``.
        """
        check_is_fitted(self)
        place = place_for(path)
        if other := _OTHER_FORMATS.get(place.suffix.lower()):
            warn(
                f"{place.name} is written in the format of safetensors, which sklearn_ssl.load "
                f"reads; name it {place.stem}.safetensors, or use {other} to write what its "
                "ending says",
                FileFormatWarning,
            )
        write_file(place, self._state())

    def _state(self) -> dict[str, Any]:
        """Return the arguments, and what was learned."""
        return {
            **described(self),
            "attributes": {name: _packed_value(v) for name, v in self._learned_values().items()},
        }

    def _learned_values(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._arguments}

    def _restore(self, values: dict[str, Any], rebuild: Rebuild) -> Self:
        """Restore what :meth:`_state` gave, except the arguments."""
        self._validate_params()
        lenders = [v for v in self.get_params().values() if isinstance(v, DeclaredArguments)]
        for name, value in values["attributes"].items():
            if not name.isidentifier() or hasattr(type(self), name):
                raise ValueError(f"{name!r} is no attribute that {type(self).__name__} learns")
            self.__dict__[name] = _unpacked_value(value, lambda v: rebuild(v, lenders))
        return self


def described(estimator: Any) -> dict[str, Any]:
    """Return the class and the arguments."""
    arguments, code = _packed_arguments(estimator)
    return {
        "format": FORMAT,
        "version": version("sklearn-ssl"),
        "class": type(estimator).__name__,
        "arguments": arguments,
        "code": code,
    }


def _packed_arguments(estimator: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments that can be stored, and the names of those that are code.

    Folders that are written to are in neither.
    """
    arguments: dict[str, Any] = {}
    code: dict[str, str] = {}
    for name, known in estimator._arguments.items():
        if known["writes"]:
            continue
        value = getattr(estimator, name)
        try:
            arguments[name] = _packed_argument(value)
        except TypeError:
            code[name] = name_of_code(value)
    return arguments, code


def _packed_argument(value: Any) -> Any:
    """Return an argument in types that can be stored; raise TypeError for code."""
    value = plain(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(map(_packed_argument, value))
    if isinstance(value, dict):
        return {plain(key): _packed_argument(item) for key, item in value.items()}
    if isinstance(value, (torch.device, os.PathLike)):
        return str(value)
    if isinstance(value, DeclaredArguments):
        arguments = {
            name: _packed_argument(getattr(value, name))
            for name, known in value._arguments.items()
            if not known["writes"]
        }
        return {"class": type(value).__name__, "arguments": arguments}
    if _is_of_sklearn(type(value)):
        params = value.get_params(deep=False).items()
        return {
            "sklearn": _path_of(type(value)),
            "arguments": {n: _packed_argument(item) for n, item in params if n != _WRITES},
        }
    raise TypeError(f"{value!r} is code")


def unpacked_arguments(
    kind: Any, packed: dict[str, Any], classes: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a class, without those by which a file would have others written."""
    known = getattr(kind, "_arguments", {_WRITES: {"writes": True}})
    return {
        name: _unpacked_argument(value, classes)
        for name, value in packed.items()
        if not known.get(name, {"writes": False})["writes"]
    }


def _unpacked_argument(value: Any, classes: dict[str, Any]) -> Any:
    """Unpack an argument, with the classes that a file may name."""
    if isinstance(value, (list, tuple)):
        return type(value)(_unpacked_argument(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    for kind, find in (("class", classes.__getitem__), ("sklearn", _sklearn_class)):
        if value.keys() == {kind, "arguments"} and isinstance(value[kind], str):
            found = find(value[kind])
            return found(**unpacked_arguments(found, value["arguments"], classes))
    return {name: _unpacked_argument(item, classes) for name, item in value.items()}


def _packed_value(value: Any) -> Any:
    """Pack a learned value; dictionaries with one key stand for what is not plain."""
    if isinstance(value, np.ndarray):
        return _packed_array(value)
    value = plain(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(map(_packed_value, value))
    if type(value) is dict:
        return {"dict": [(_packed_value(key), _packed_value(v)) for key, v in value.items()]}
    if hasattr(value, "_state"):
        return {"estimator": value._state()}
    if _is_of_sklearn(type(value)):
        return {"sklearn": (_path_of(type(value)), _packed_value(value.__getstate__()))}
    raise TypeError(
        f"{value!r} cannot be saved: only arrays, numbers, text, and estimators that are made of "
        "them are; keep it by pickle, joblib or skops"
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
        made.__setstate__(_unpacked_value(inside[1], rebuild))  # warns of other versions
        return made
    raise ValueError(f"values of the kind {kind!r}")


def _packed_array(array: np.ndarray) -> dict[str, Any]:
    """Pack an array with its type and memory order, which the last bits of products depend on."""
    by_columns = array.ndim > 1 and array.strides[0] < array.strides[-1]
    if array.dtype.kind not in "biuf":
        values = array.tolist()
        if array.dtype.kind not in "UO" or array.ndim != 1:
            raise TypeError(f"an array of {array.dtype} cannot be saved")
        return {"array": (list(map(_packed_value, values)), array.dtype.str, False)}
    values = np.ascontiguousarray(array.T if by_columns else array)
    tensor = torch.from_numpy(values.reshape(array.T.shape if by_columns else array.shape).copy())
    return {"array": (tensor, array.dtype.str, by_columns)}


def _unpacked_array(values: Any, dtype: str, by_columns: bool) -> np.ndarray:
    if np.dtype(dtype).kind not in "biufUO":
        raise ValueError(f"an array of {dtype}")
    array = np.array(values, dtype=dtype) if isinstance(values, list) else values.numpy()
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"an array of {array.dtype}, not of {dtype}")
    return array.T if by_columns else array


def _is_of_sklearn(cls: type) -> bool:
    return issubclass(cls, BaseEstimator) and cls.__module__.startswith("sklearn.")


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _sklearn_class(path: str) -> Any:
    """Return the class of an estimator of scikit-learn; no other code is imported."""
    module, _, name = path.rpartition(".")
    if not module.startswith("sklearn.") or ".tests" in module:
        raise ValueError(f"{path} is not a class of scikit-learn")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and _is_of_sklearn(found)):
        raise ValueError(f"{path} is not an estimator of scikit-learn")
    return found
