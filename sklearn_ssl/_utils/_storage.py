"""Values and tensors in one file: safetensors, with JSON in its header. Reading runs no code."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from joblib import Memory
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sklearn_ssl._utils._messages import failure_named

_KEY = "sklearn_ssl"  # of our JSON in the header's metadata
_CHECKSUM = "checksum"
# errors caused by files that are damaged, or written by someone else
DAMAGED = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, StopIteration),
    *(TypeError, ValueError),
)


def expanded(path: str | os.PathLike, argument: str = "path") -> Path:
    """Return a path with the home directory in place of ``~``.

    Raises
    ------
    FileNotFoundError
        If ``~user`` is unknown; the message names ``argument``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            errno.ENOENT, f"{argument} names a home directory that does not exist", os.fspath(path)
        ) from error


def place_for(path: str | os.PathLike, argument: str = "path") -> Path:
    """Return the path of a file to write, with ``~`` expanded; create its folder if needed.

    Raises
    ------
    OSError
        If the folder cannot be created, or if the path itself is a folder.
    """
    place = expanded(path, argument)
    if place.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, f"{argument} is a folder; give the name of a file in it", str(place)
        )
    with failure_named(f"the folder of {argument} cannot be created ({{}})", place):
        place.parent.mkdir(parents=True, exist_ok=True)
    return place


@contextlib.contextmanager
def replaced(path: str | os.PathLike, synced: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` at the end; delete it on errors.

    Unless ``synced``, a power cut may leave the file empty or damaged.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        if synced:
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if synced and os.name == "posix":  # the folder entry, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_file(path: str | os.PathLike, values: Any, synced: bool = True) -> None:
    """Write nested dictionaries, lists and tuples of numbers, strings and tensors, atomically.

    Unless ``synced``, a power cut may damage the file; :func:`read_file` then raises an error.

    Raises
    ------
    TypeError
        For values of other types.
    OSError
        If the file cannot be written, for example because the disk is full.
    """
    content = to_bytes(values, checked=True)
    with replaced(path, synced) as beside:
        beside.write_bytes(content)


def read_file(path: str | os.PathLike) -> Any:
    """Read what :func:`write_file` wrote.

    The file is not memory-mapped: it may be changed or deleted afterward.

    Raises
    ------
    ValueError
        If the file has another format, or is damaged.
    OSError
        If it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        return from_bytes(content, checked=True)
    except (SafetensorError, *DAMAGED) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a file of sklearn_ssl, or is damaged: "
            f"{type(error).__name__}: {error}"
        ) from error


def to_bytes(values: Any, checked: bool = False) -> bytes:
    """Serialize nested values and tensors as the content of a file, with a checksum if ``checked``.

    Equal values give equal bytes only without a checksum: safetensors writes metadata in arbitrary
    order if there is more than one entry.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {_KEY: json.dumps(_packed(values, tensors))}
    if checked:
        metadata[_CHECKSUM] = _checksum(metadata[_KEY], tensors)
    return save(tensors, metadata=metadata)


def from_bytes(content: bytes, checked: bool = False) -> Any:
    """Invert :func:`to_bytes`."""
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header["__metadata__"]
    text = metadata[_KEY]
    if checked and metadata[_CHECKSUM] != _checksum(text, tensors):
        raise ValueError("its checksum does not match")
    return _unpacked(json.loads(text), tensors)


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        bits = tensors[name].contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(bits.numpy().data)
    return found.hexdigest()


def _packed(values: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the values as JSON types; move tensors to ``tensors`` and refer to them by name."""
    if isinstance(values, Tensor):
        name = str(len(tensors))
        tensors[name] = values.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(values, np.generic):
        values = values.item()
    if values is None or isinstance(values, (bool, int, float, str)):
        return values
    if isinstance(values, dict):
        pairs = [[_packed(key, tensors), _packed(v, tensors)] for key, v in values.items()]
        return {"dict": pairs}
    if isinstance(values, (list, tuple)):
        kind = "tuple" if isinstance(values, tuple) else "list"
        return {kind: [_packed(value, tensors) for value in values]}
    raise TypeError(f"{values!r} cannot be stored")


def _unpacked(packed: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(packed, dict):
        if isinstance(packed, list):
            raise TypeError("a list without a name")
        return packed
    kind = next(iter(packed))
    inside = packed[kind]
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {_unpacked(key, tensors): _unpacked(value, tensors) for key, value in inside}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_unpacked(value, tensors) for value in inside)
    raise TypeError(f"unknown kind of value: {kind!r}")


def key_of(values: Any) -> str:
    """Return a digest of plain values: 32 hexadecimal digits, the same for equal values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def locked(folder: Path, lock: Path, what: str, wait: bool = True) -> Iterator[None]:
    """Create a folder if needed, lock it, and delete partially written files in it.

    Raises
    ------
    OSError
        If the folder is not writable; the message names ``what``.
    filelock.Timeout
        If another process has locked it, unless ``wait``.
    """
    with failure_named(f"{what} cannot be written: {{}}", folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with FileLock(lock, timeout=-1 if wait else 0):
        folder.mkdir(exist_ok=True)
        for part in folder.glob(".*.part"):  # left by a killed process
            part.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def opened_result(memory: str | os.PathLike | Memory, key: str) -> Iterator[Path]:
    """Lock the folder of a cached result; others wait for its release, or for the process to end.

    It lives in joblib's directory, so that ``joblib.Memory(...).reduce_size()`` deletes the least
    recently used results.

    Parameters
    ----------
    memory : str, path or joblib.Memory
        Location of the cache.
    key : str
        Key of what the result was computed from.

    Raises
    ------
    OSError
        If the folder is not writable.
    """
    location = memory.location if isinstance(memory, Memory) else memory
    store = expanded(location, "memory") / "joblib" / "sklearn_ssl"
    with locked(store / key, store / "locks" / key, "memory"):
        os.utime(store / key)  # marks it as recently used
        try:
            yield store / key
        finally:
            with contextlib.suppress(OSError):  # succeeds only if it is empty
                (store / key).rmdir()
