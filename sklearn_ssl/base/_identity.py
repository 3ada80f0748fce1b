"""Identity of a training run: its arguments and its images."""

import contextlib
import functools
import hashlib
import types
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl._utils._storage import expanded
from sklearn_ssl.encoders import is_file
from sklearn_ssl.images import Images

__all__ = ["describe", "image_fingerprint", "image_hashes", "name_of_code", "training_arguments"]

_TOLD_APART_BY = 1000  # images, evenly spread
# whose code is told by the version of this package, or does not change from day to day
_KNOWN = {"builtins", "sklearn_ssl", "sklearn", "skorch", "torch", "torchvision", "timm"}


def training_arguments(learner: Any) -> dict[str, Any]:
    """Return the arguments that a training depends on, as plain values."""
    params = learner.get_params(deep=False)
    weights = params.get("weights")
    if is_file(weights) and expanded(weights).is_file():  # told by what is in it, if it is there
        with contextlib.suppress(OSError), open(expanded(weights), "rb") as file:
            params["weights"] = hashlib.file_digest(file, "blake2b").hexdigest()
    return {
        name: describe(value)
        for name, value in params.items()
        if learner._arguments[name]["trains"]
    }


def describe(value: Any) -> Any:
    """Return plain values that are equal for equal arguments: names in place of code."""
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, BaseEstimator):
        of_learner = hasattr(value, "_arguments")
        params = training_arguments(value) if of_learner else value.get_params(deep=False)
        described = {name: describe(v) for name, v in params.items()}
        with contextlib.suppress(NotFittedError, TypeError):  # that it has no fit
            check_is_fitted(value)
            described["fitted"] = joblib.hash(value)
        return {type(value).__name__: described}
    if isinstance(value, functools.partial):
        given = {name: describe(v) for name, v in value.keywords.items()}
        return [describe(value.func), describe(value.args), given]
    if isinstance(value, dict):
        return {str(name): describe(v) for name, v in value.items()}
    if isinstance(value, (np.ndarray, torch.Tensor)):
        values = np.ascontiguousarray(torch.as_tensor(value).detach().cpu().numpy())
        return f"{values.dtype} {values.shape} {hashlib.blake2b(values.data).hexdigest()[:16]}"
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{name_of_code(value)} {_code_of(value)}"
    if callable(value):
        return [describe(type(value)), describe(getattr(value, "__dict__", repr(value)))]
    return str(value)


def name_of_code(value: Any) -> str:
    """Return the module and name of a class, a function or the type of another object."""
    if isinstance(value, functools.partial):
        return f"functools.partial({name_of_code(value.func)}, ...)"
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _code_of(value: Any) -> str:
    """Return a hash of a class's or function's code and of what it uses; empty if there is none."""
    parts: list[str] = []
    _collect(value, parts, set())
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest() if parts else ""


def _collect(value: Any, parts: list[str], seen: set[int]) -> None:
    """Collect the code of a class or function, and of those of its module that it names."""
    module = getattr(value, "__module__", None) or "builtins"
    if id(value) in seen or module.partition(".")[0] in _KNOWN:
        return
    seen.add(id(value))
    if isinstance(value, type):
        for base in value.__bases__:
            _collect(base, parts, seen)
        for name, member in sorted(vars(value).items()):
            inner = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(inner, types.FunctionType):
                _collect(inner, parts, seen)
            elif isinstance(member, (bool, int, float, str, tuple)) and name != "__module__":
                parts.append(f"{name} {member!r}")
        return
    code = getattr(value, "__code__", None)
    if code is None:
        return
    parts.append(_described_code(code))
    cells = [cell.cell_contents for cell in value.__closure__ or ()]  # super() has its class there
    for held in (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
        if hasattr(held, "__qualname__"):
            _collect(held, parts, seen)
        else:
            parts.append(str(describe(held)))
    for name in _names_in(code):
        named = value.__globals__.get(name)
        if getattr(named, "__module__", None) == module and callable(named):
            _collect(named, parts, seen)


def _described_code(code: types.CodeType) -> str:
    constants = [
        _described_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


def _names_in(code: types.CodeType) -> list[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return [*code.co_names, *(name for c in inner for name in _names_in(c))]


def image_fingerprint(images: Images, at_most: int = _TOLD_APART_BY) -> str:
    """Return a hash of images; of many, that of a sample."""
    _, pixels = _sample(images, at_most)
    return f"{len(images)} {hashlib.blake2b(pixels.data).hexdigest()}"


def image_hashes(images: Images) -> list[str | None]:
    """Return a hash of each image of a sample, or None for files that are skipped."""
    rows, pixels = _sample(images, _TOLD_APART_BY)
    skipped = images.skipped
    return [
        None if row in skipped else hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()
        for row, image in zip(rows.tolist(), pixels, strict=True)
    ]


def _sample(images: Images, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, evenly spread, and their images (n, h, w, c)."""
    rows = np.arange(0, len(images), -(-len(images) // at_most))
    return rows, images.take(rows).permute(0, 2, 3, 1).numpy()
