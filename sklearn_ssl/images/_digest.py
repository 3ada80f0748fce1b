"""Digests that identify image collections, for cached results."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image
from xxhash import xxh3_128_digest

from sklearn_ssl.images._files import Files
from sklearn_ssl.images._listing import file_of
from sklearn_ssl.images._read import Images

_BYTES_AT_ONCE = 2**24


def image_digest(images: Images) -> str:
    """Compute a digest of images: all values of arrays; path, size and mtime of files.

    All values are read once, in order, and hashed in threads.
    """
    found = hashlib.blake2b(digest_size=16)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for array in images.arrays:
            found.update(f"{len(array)} {array.dtype}".encode())
            if isinstance(array, Files):
                found.update(f"{array.target} {array.broken}".encode())
            waiting = []
            for part in _items(array) if isinstance(array, Files) else _values(array, images.shape):
                waiting.append(pool.submit(xxh3_128_digest, part))
                if len(waiting) > 8:  # hold only a few in memory
                    found.update(waiting.pop(0).result())
            for hashed in waiting:
                found.update(hashed.result())
    return found.hexdigest()


def path_digest(paths: Iterable[str]) -> str:
    """Compute a digest of files: path, size and modification time of each."""
    return hashlib.blake2b(b"\0".join(map(_stamp, paths)), digest_size=16).hexdigest()


def _values(array: Any, shape: tuple[int, int, int]) -> Iterator[Any]:
    """Yield the bytes of images (n, h, w, c) in chunks."""
    a_row = int(np.prod(shape)) * array.dtype.itemsize
    size = max(1, _BYTES_AT_ONCE // a_row)
    for start in range(0, len(array), size):
        stop = min(start + size, len(array))
        in_memory = isinstance(array, np.ndarray)
        rows = array[start:stop] if in_memory else array[np.arange(start, stop)]
        yield np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data


def _items(files: Files) -> Iterator[bytes]:
    """Yield path, size and mtime of files, or a hash of the content of other items, in chunks."""
    for start in range(0, len(files) + 1, 4096):  # the last chunk may be empty
        rows = range(start, min(start + 4096, len(files)))
        yield b"\0".join(_stamp(files.items[row]) for row in rows)


def _stamp(item: Any) -> bytes:
    if isinstance(item, dict):  # an undecoded image of a Hugging Face dataset
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if isinstance(item, (str, os.PathLike)):
        path = os.path.abspath(os.path.expanduser(item))
        try:
            stat = os.stat(file_of(path))
        except OSError:
            return f"{path} missing".encode(errors="surrogateescape")
        text = f"{path} {stat.st_size} {stat.st_mtime_ns}"
        return text.encode(errors="surrogateescape")
    if isinstance(item, Image.Image):
        return xxh3_128_digest(f"{item.mode} {item.size}".encode() + item.tobytes())
    if isinstance(item, (bytes, bytearray)):
        return xxh3_128_digest(item)
    array = np.ascontiguousarray(item)
    return xxh3_128_digest(f"{array.shape} {array.dtype}".encode() + array.tobytes())
