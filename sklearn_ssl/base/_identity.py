"""What tells a training from others: its arguments and its images."""

import functools
import hashlib
import inspect
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl.images import Images

__all__ = ["describe", "image_fingerprint", "name_of_code", "training_arguments"]

_TOLD_APART_BY = 1000  # images, evenly spread


def training_arguments(learner: Any) -> dict[str, Any]:
    """The arguments that a training depends on, in plain values."""
    params = learner.get_params(deep=False)
    return {
        name: describe(value)
        for name, value in params.items()
        if learner._arguments[name]["trains"]
    }


def describe(value: Any) -> Any:
    """Plain values that are equal for equal arguments: names in place of code."""
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, BaseEstimator):
        of_learner = hasattr(value, "_arguments")
        params = training_arguments(value) if of_learner else value.get_params(deep=False)
        return {type(value).__name__: {name: describe(v) for name, v in params.items()}}
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
    """Where a class, a function or what is called like one was written."""
    if isinstance(value, functools.partial):
        return f"functools.partial({name_of_code(value.func)}, ...)"
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _code_of(value: Any) -> str:
    """What tells a class or function from another one of the same name; not what it calls."""
    if value.__module__.partition(".")[0] in ("torch", "torchvision", "timm"):
        return ""
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):  # of what was typed in, or is not of Python
        code = getattr(value, "__code__", None)
        text = "" if code is None else f"{code.co_code!r} {code.co_consts} {code.co_names}"
    bound = [describe(cell.cell_contents) for cell in getattr(value, "__closure__", None) or ()]
    bound.append(describe(getattr(value, "__defaults__", None)))
    return hashlib.blake2b(f"{text} {bound}".encode(), digest_size=8).hexdigest()


def image_fingerprint(images: Images) -> str:
    """What tells images from others; of many a sample does."""
    rows = np.arange(0, len(images), -(-len(images) // _TOLD_APART_BY))
    pixels = images.take(rows).permute(0, 2, 3, 1).numpy()
    return f"{len(images)} {hashlib.blake2b(pixels.data).hexdigest()}"
