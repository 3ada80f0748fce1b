"""On-disk cache of decoded images, shared by processes."""

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from sklearn_ssl._utils._messages import failure_named
from sklearn_ssl._utils._storage import expanded, read_file, write_file
from sklearn_ssl.images._targets import Target


class DecodedCache:
    """On-disk cache of decoded images, keyed by path, size, modification time and target.

    Each image is written to a temporary file and then renamed, so other processes never see a
    partial file. Its checksum is verified on reading, and a damaged image is decoded again. Files
    are therefore not synced, which would take longer than decoding most of them.

    Parameters
    ----------
    folder : str or path
        Created if missing.

    Raises
    ------
    OSError
        If it is not a folder and cannot be created.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = expanded(folder, "decoded_cache")
        must = "decoded_cache must be a folder that exists or can be created ({})"
        with failure_named(must, self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def place_of(self, path: str, stat: os.stat_result, target: Target) -> Path:
        """Return the path at which an image is, or will be, cached."""
        key = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0{target}"
        name = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def load(self, place: Path, target: Target) -> np.ndarray | None:
        """Load an image; return None if it is missing, damaged or does not fit the target."""
        try:
            image = read_file(place)
        except (OSError, ValueError):
            return None
        if not isinstance(image, torch.Tensor) or image.ndim != 3:
            return None
        found = image.numpy()
        sides, wanted = found.shape[:2], (target.height, target.width)
        fits = min(sides) > 0 if target.whole else sides == wanted
        kind = found.shape[2], found.dtype
        return found if fits and kind == (target.channels, target.dtype) else None

    def keep(self, place: Path, image: np.ndarray) -> None:
        """Write an image to its path.

        Raises
        ------
        OSError
            If it cannot be written, for example because the disk is full.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        write_file(place, torch.from_numpy(np.array(image, order="C")), synced=False)


def prune_decoded(folder: str | os.PathLike, max_bytes: int) -> int:
    """Delete the least recently read images of a ``decoded_cache``.

    Parameters
    ----------
    folder : str or path
    max_bytes : int
        Size to which the cache is reduced.

    Returns
    -------
    int
        Remaining size in bytes.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_ssl.images import prune_decoded
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prune_decoded(folder, max_bytes=10**9)
    0
    """
    entries = []
    for path in expanded(folder, "folder").glob("??/*"):
        if path.suffix in (".npy", ".part", ".safetensors"):  # .npy from earlier versions
            stat = path.stat()
            entries.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    left = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if left <= max_bytes:
            break
        path.unlink(missing_ok=True)
        left -= size
    return left
