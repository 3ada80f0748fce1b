"""Decoded images on disk, shared by processes."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from sklearn_ssl.images._targets import Target

__all__ = ["DecodedCache", "prune_decoded"]


class DecodedCache:
    """Decoded images in files of their own, by path, size, time of change and what they become.

    A file is written beside its place and then moved there, so that other processes never see a
    part of it. Whatever cannot be read is decoded again.

    Parameters
    ----------
    folder : str or path
        Made if it is missing.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)

    def place_of(self, path: str, stat: os.stat_result, target: Target) -> Path:
        """Where an image is, or will be."""
        key = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{target}"
        name = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npy"

    def load(self, place: Path) -> np.ndarray | None:
        """The image there, memory-mapped; None if there is none."""
        try:
            return np.load(place, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None

    def keep(self, place: Path, image: np.ndarray) -> None:
        """Put an image there."""
        place.parent.mkdir(exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=place.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, image, allow_pickle=False)
            os.replace(beside, place)
        except BaseException:
            os.unlink(beside)
            raise


def prune_decoded(folder: str | os.PathLike, max_bytes: int) -> int:
    """Delete the images of a ``decoded_cache`` that were read longest ago.

    Parameters
    ----------
    folder : str or path
    max_bytes : int
        What may be left.

    Returns
    -------
    int
        Bytes that are left.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_ssl.images import prune_decoded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prune_decoded(folder, max_bytes=10**9)
    0
    """
    entries = []
    for path in Path(folder).expanduser().glob("??/*"):
        if path.suffix in (".npy", ".part"):
            stat = path.stat()
            entries.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    left = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if left <= max_bytes:
            break
        path.unlink(missing_ok=True)
        left -= size
    return left
