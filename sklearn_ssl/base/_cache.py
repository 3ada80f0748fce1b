"""Cache of training runs and features (``memory=``), and the identity of a training run."""

import contextlib
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from joblib import Memory
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._estimators import name_of_code, plain
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import (
    DAMAGED,
    expanded,
    key_of,
    opened_result,
    read_file,
    write_file,
)
from sklearn_ssl._utils._torch import OwnRandomNumbers, current_processes
from sklearn_ssl.encoders import FeatureSpec, is_file, pooled_width
from sklearn_ssl.exceptions import MemoryWarning
from sklearn_ssl.images import Images, image_digest

_MOST_IMAGES_HASHED = 1000  # images in a fingerprint, evenly spread
# packages whose code is not hashed: their versions identify it, or it hardly changes
_KNOWN = {"builtins", "sklearn_ssl", "sklearn", "skorch", "torch", "torchvision", "timm"}


def identity_of(learner: Any, images: Images) -> dict[str, Any]:
    """Return plain values that identify a training run, except for the pixels of its images."""
    return {
        "class": type(learner).__name__,
        **training_arguments(learner),
        "images": f"{len(images)} of {images.shape}, {images.dtype}",
    }


def training_arguments(learner: Any) -> dict[str, Any]:
    """Return the arguments that affect training, as plain values."""
    return {
        name: value
        for name, value in described_arguments(learner).items()
        if learner._arguments[name]["trains"]
    }


def described_arguments(learner: Any) -> dict[str, Any]:
    """Return all arguments as plain values, with files of weights by their content."""
    params = learner.get_params(deep=False)
    weights = params.get("weights")
    if is_file(weights) and expanded(weights).is_file():  # identified by its content
        with contextlib.suppress(OSError), open(expanded(weights), "rb") as file:
            params["weights"] = hashlib.file_digest(file, "blake2b").hexdigest()
    return {name: describe(value) for name, value in params.items()}


def describe(value: Any) -> Any:
    """Return plain values that are equal for equal arguments; code is named and hashed."""
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, BaseEstimator):
        of_learner = hasattr(value, "_arguments")
        params = training_arguments(value) if of_learner else value.get_params(deep=False)
        described = {name: describe(v) for name, v in params.items()}
        with contextlib.suppress(NotFittedError, TypeError):  # not fitted, or no fit method
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


def _code_of(value: Any) -> str:
    """Return a hash of the code of a class or function and of what it uses, or "" without code."""
    parts: list[str] = []
    _collect(value, parts, set())
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest() if parts else ""


def _collect(value: Any, parts: list[str], seen: set[int]) -> None:
    """Collect the code of a class or function, and of those it names from its own module."""
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
    cells = [cell.cell_contents for cell in value.__closure__ or ()]  # super() has the class there
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


def image_fingerprint(images: Images, at_most: int = _MOST_IMAGES_HASHED) -> str:
    """Return a hash of images, or of a sample if there are many."""
    _, pixels = _sample(images, at_most)
    return f"{len(images)} {hashlib.blake2b(pixels.data).hexdigest()}"


def image_hashes(images: Images) -> list[str | None]:
    """Return a hash of each image in a sample, with None for skipped files."""
    rows, pixels = _sample(images, _MOST_IMAGES_HASHED)
    skipped = images.skipped
    return [
        None if row in skipped else hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()
        for row, image in zip(rows.tolist(), pixels, strict=True)
    ]


def _sample(images: Images, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return evenly spread rows and their images (n, h, w, c)."""
    rows = np.arange(0, len(images), -(-len(images) // at_most))
    return rows, images.take(rows).permute(0, 2, 3, 1).numpy()


_POOLS: tuple[str | int, ...] = ("avg", "max", 1, 2, 3, 4)  # those that a search usually tries
_BYTES_AT_MOST = 2**30  # of features computed ahead of a request


def is_on(memory: Any) -> bool:
    """Return whether anything is cached; ``joblib.Memory(None)`` caches nothing."""
    return (memory.location if isinstance(memory, Memory) else memory) is not None


def caches_trainings(learner: Any) -> bool:
    """Return whether training runs are cached; warn if they are not for lack of a seed."""
    unseeded = learner._unseeded()
    if not is_on(learner.memory) or unseeded is None:
        return is_on(learner.memory)
    warn(
        f"memory= caches features but not training, because with {unseeded}=None every fit is a "
        "new training run; give a random_state to train only once",
        MemoryWarning,
    )
    return False


@contextlib.contextmanager
def cached_training(
    learner: Any, images: Images, seed: int, epochs: int, draws: OwnRandomNumbers
) -> Iterator[tuple[int, bool] | None]:
    """Restore an equal training run from the cache; cache what is trained in the block.

    Yield the number of epochs left, and whether they continue a restored run, as a warm start does;
    or None if the whole run was restored.
    """
    what = {
        **identity_of(learner, images),
        "version": version("sklearn-ssl"),
        "class": describe(type(learner)),
        "seed": seed,
        "digest": image_digest(images),
        "names": [str(name) for name in getattr(learner, "feature_names_in_", ())],
    }
    processes = current_processes()
    if processes.size > 1:  # each of which draws numbers of its own
        what["processes"] = processes.size
    if learner.schedule == "constant":  # every run is the beginning of longer ones
        del what["max_epochs"]
    opened = opened_result(learner.memory, key_of(what))
    timed = learner.time_budget is not None  # whose number of epochs is not known ahead
    with contextlib.ExitStack() as stack:
        folder = processes.first(lambda: stack.enter_context(opened))
        done = processes.first(lambda: _longest(folder, sys.maxsize if timed else epochs))
        if done is not None and processes.size > 1 and not timed and done[0] != epochs:
            done = None  # the other processes' generators are not in it
        if done is not None and not _restored(learner, done[1], draws):
            done = None
        n_done = done[0] if done else 0
        is_complete = done is not None and (timed or n_done == epochs)
        yield None if is_complete else (epochs - n_done, done is not None)
        whole = timed or learner.n_epochs_ == epochs  # not stopped by a callback
        if whole and not is_complete and processes.rank == 0:
            with _written_or_warned("the training run"):
                values = {**learner._state(), "generators": draws.state()}
                write_file(folder / f"epochs-{learner.n_epochs_:06d}.safetensors", values)


def _restored(learner: Any, values: Any, draws: OwnRandomNumbers) -> bool:
    """Restore a cached training run in a learner, and return whether that worked."""
    before = draws.state()
    try:
        learner._restore(values)
        draws.set_state(values["generators"])
    except DAMAGED as error:
        draws.set_state(before)
        warn(
            f"the training run cached in memory={str(learner.memory)!r} does not fit this learner "
            f"({type(error).__name__}: {error}); training anew",
            MemoryWarning,
        )
        return False
    return True


def _longest(folder: Path, epochs: int) -> tuple[int, Any] | None:
    """Return the length and the values of the longest run of at most ``epochs`` epochs, or None."""
    for file in sorted(folder.glob("epochs-*.safetensors"), reverse=True):
        n_epochs = int(file.stem.removeprefix("epochs-"))
        if n_epochs <= epochs:
            try:
                return n_epochs, read_file(file)
            except (OSError, ValueError) as error:
                warn(f"{error}; training anew", MemoryWarning)
                with contextlib.suppress(OSError):  # then it cannot be replaced either
                    file.unlink()
    return None


def cached_features(
    learner: Any, images: Images, spec: FeatureSpec, encode: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return the concatenated features (n, d) of layers and their pools.

    Features missing from the cache are computed in one pass, ``encode(pairs)``, together with
    those that a search is likely to request next, if these are not too large.
    """
    if not is_on(learner.memory):
        return encode(spec)
    encoder, pixels = learner.encoder_, learner.net_.module_.pixels
    what = {
        "version": version("sklearn-ssl"),
        "learner": [describe(type(learner)), training_arguments(learner)],  # e.g. patch_size
        "weights": _digest_of([*pixels.state_dict().values(), *encoder.state_dict().values()]),
        "images": f"{images.shape} {images.dtype} {image_digest(images)}",
    }
    order, n = list(encoder.layers), len(images)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(opened_result(learner.memory, key_of(what)))
        except OSError as error:  # for example, the folder does not exist on this machine
            warn(f"{error}; features are computed but not cached", MemoryWarning)
            return encode(spec)
        mirrored = "-mirror" if learner.mirror else ""
        places = {
            (layer, pool): folder / f"{order.index(layer):03d}-{pool}{mirrored}.safetensors"
            for layer in order
            for pool in (*_POOLS, *(pool for _, pool in spec))
        }

        def width(pair: tuple[str, Any]) -> int:
            return pooled_width(encoder.layers[pair[0]], pair[1])

        found: dict[tuple[str, Any], Any] = {
            pair: _read(places[pair], (n, width(pair))) for pair in spec
        }
        if missing := [pair for pair in found if found[pair] is None]:
            pairs = _with_more(missing, encoder.layers, n)
            parts = np.split(encode(pairs), np.cumsum([*map(width, pairs)])[:-1], axis=1)
            found |= zip(pairs, parts, strict=True)
            if not images.skipped:  # skipped files may be readable next time
                with _written_or_warned("features"):
                    for pair, part in zip(pairs, parts, strict=True):
                        rows = torch.from_numpy(np.ascontiguousarray(part))
                        write_file(places[pair], rows)
        return np.concatenate([found[pair] for pair in spec], axis=1)


def _with_more(missing: FeatureSpec, shapes: dict[str, Any], n_images: int) -> FeatureSpec:
    """Return the missing pairs, plus the other usual pools of their layers."""
    pairs, left = list(missing), _BYTES_AT_MOST
    for layer in dict.fromkeys(layer for layer, _ in missing):
        more = [(layer, pool) for pool in _POOLS if (layer, pool) not in missing]
        left -= 4 * n_images * sum(pooled_width(shapes[layer], pool) for _, pool in more)
        if left < 0:
            break
        pairs += more
    return pairs


def _read(place: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Read features; return None if there are none, or with a warning if they are damaged."""
    try:
        rows = read_file(place)
        if not isinstance(rows, torch.Tensor) or (rows.shape, rows.dtype) != (shape, torch.float32):
            raise ValueError(f"{place} does not hold float32 features of shape {shape}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn(f"{error}; features are computed again", MemoryWarning)
        return None
    return rows.numpy()


@contextlib.contextmanager
def _written_or_warned(what: str) -> Iterator[None]:
    """Warn if a result cannot be written, which costs nothing but a recomputation."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        warn(f"{what} cannot be cached in memory=: {reason}", MemoryWarning)


def _digest_of(tensors: Any) -> str:
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
