"""Values and tensors in one file: safetensors with JSON in its header. Reading it runs no code."""

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

_KEY = "sklearn_ssl"  # of the header's metadata, under which our JSON is
_CHECKSUM = "checksum"
# what comes of a file that is damaged, or was written by somebody else
DAMAGED = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, StopIteration),
    *(TypeError, ValueError),
)


def expanded(path: str | os.PathLike, argument: str = "path") -> Path:
    """Return a path with the home directory in place of ``~``.

    Raises
    ------
    FileNotFoundError
        If it names the home directory of a user that there is not; ``argument`` is in the message.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(
            errno.ENOENT, f"{argument} names a home directory that does not exist", os.fspath(path)
        ) from error


def place_for(path: str | os.PathLike, argument: str = "path") -> Path:
    """Return the path of a file to write: ``~`` is expanded, and its folder is made.

    Raises
    ------
    OSError
        If the folder cannot be made, or if the path itself is a folder.
    """
    place = expanded(path, argument)
    if place.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, f"{argument} is a folder; give the name of a file in it", str(place)
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno, f"the folder of {argument} cannot be made ({error.strerror})", str(place)
        ) from error
    return place


@contextlib.contextmanager
def replaced(path: str | os.PathLike, synced: bool = True) -> Iterator[Path]:
    """Yield the path of a new file that replaces ``path`` at the end, or is deleted on an error.

    Unless ``synced``, a power cut may leave it empty or damaged.
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
    if synced and os.name == "posix":  # the folder's entry, too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_file(path: str | os.PathLike, values: Any, synced: bool = True) -> None:
    """Write nested dictionaries, lists and tuples of numbers, strings and tensors, all or nothing.

    Unless ``synced``, a power cut may damage the file, which :func:`read_file` then refuses.

    Raises
    ------
    TypeError
        For values of other kinds.
    OSError
        If the file cannot be written, as on a full disk.
    """
    content = to_bytes(values, checked=True)
    with replaced(path, synced) as beside:
        beside.write_bytes(content)


def read_file(path: str | os.PathLike) -> Any:
    """Read what :func:`write_file` wrote.

    The file is not mapped into memory: it may be changed or deleted afterward.

    Raises
    ------
    ValueError
        If it is no such file, or not a whole one.
    OSError
        If it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        return from_bytes(content, checked=True)
    except (SafetensorError, *DAMAGED) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a file of sklearn_ssl, or it is damaged: "
            f"{type(error).__name__}: {error}"
        ) from error


def to_bytes(values: Any, checked: bool = False) -> bytes:
    """Return nested values and tensors as the content of a file, ``checked`` by a checksum.

    Without a checksum, equal values have equal bytes: safetensors writes several entries of its
    metadata in any order.
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
        raise ValueError("its checksum is another one")
    return _unpacked(json.loads(text), tensors)


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        bits = tensors[name].contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        found.update(bits.numpy().data)
    return found.hexdigest()


def _packed(values: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the values in types of JSON; tensors are put into ``tensors``, and named."""
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
        return {type(values).__name__: [_packed(value, tensors) for value in values]}
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
    raise TypeError(f"values of the kind {kind!r}")


def key_of(values: Any) -> str:
    """Return a digest of plain values: 32 digits, equal for equal values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def locked(folder: Path, lock: Path, what: str, wait: bool = True) -> Iterator[None]:
    """Lock a folder, made if it is missing, and delete files in it that were left half written.

    Raises
    ------
    OSError
        If it cannot be written to; ``what`` is in the message.
    filelock.Timeout
        If another process has it, unless ``wait``.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise OSError(
            error.errno, f"{what} cannot be written: {error.strerror}", str(folder)
        ) from error
    with FileLock(lock, timeout=-1 if wait else 0):
        folder.mkdir(exist_ok=True)
        for part in folder.glob(".*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)
        yield


class ResultStore:
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
        folder = self.folder / key
        with locked(folder, self.folder / "locks" / key, "memory"):
            os.utime(folder)  # it is used
            try:
                yield folder
            finally:
                with contextlib.suppress(OSError):  # with something in it, it stays
                    folder.rmdir()
