"""Listing of images in folders, patterns and archives."""

import fnmatch
import glob
import heapq
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sklearn_ssl._utils._messages import warn
from sklearn_ssl.exceptions import ImageReadWarning
from sklearn_ssl.images._archives import ARCHIVES, list_members

__all__ = ["list_images"]

# that Pillow opens, and cannot decode, or only by running another program
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_OF_SYSTEMS = {"__MACOSX", "@eaDir"}  # what macOS puts into archives, and Synology into folders
_EXPECTED = {  # endings of what often lies beside images, and is none
    *(".cls", ".csv", ".db", ".html", ".id", ".index", ".ini", ".json", ".jsonl", ".log", ".md"),
    *(".tsv", ".txt", ".xml", ".yaml", ".yml"),
}


def list_images(source: Any) -> np.ndarray:
    """List the paths of all images in a folder, its subfolders, a pattern, or tar or zip archives.

    The paths can be split by scikit-learn, and are read by every learner. A file is an image if its
    name ends like those that Pillow reads, with its plugins; other files are counted in a warning.
    Hidden files and folders are ignored. Links are followed, and each folder is listed once.

    Parameters
    ----------
    source : str or path
        A folder, a pattern (``"photos/**/*.jpg"``), or a tar or zip archive, as WebDataset's shards
        are; a pattern may also name several archives.

    Returns
    -------
    ndarray of str, as objects
        Sorted; those in archives are named ``"shard.tar::member"``, in the order of the archive.

    Raises
    ------
    FileNotFoundError
        If there are none.
    OSError
        If a folder cannot be listed, as without the permission.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_ssl.images import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "one.png"))
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "two.jpg"))
    ...     [Path(path).name for path in list_images(folder)]
    ['one.png', 'two.jpg']
    """
    source = os.path.expanduser(os.fsdecode(source))
    if os.path.isdir(source):
        found = [os.path.join(folder, name) for folder, files in _walk([source]) for name in files]
    elif os.path.exists(source):
        found = [source]
    else:
        found = [path for path in set(_matches(source)) if not os.path.isdir(path)]
    suffixes = _suffixes()
    paths: list[str] = []
    others: Counter[str] = Counter()
    for path in sorted(found):
        for name in _members(path) if _suffix(path) in ARCHIVES else [path]:
            if _suffix(name) in suffixes:
                paths.append(name)
            else:
                others[_suffix(name)] += 1
    if not paths:
        raise FileNotFoundError(
            f"X={source!r} is read as a folder, a pattern or an archive of images, and there are "
            + (f"none that Pillow reads, but {_counted(others)}" if others else "none")
        )
    if left_out := {suffix: n for suffix, n in others.items() if suffix not in _EXPECTED}:
        warn(
            f"{sum(left_out.values())} of {len(paths) + others.total()} files of {source!r} are "
            f"left out, because Pillow reads none that end like them: {_counted(left_out)}",
            ImageReadWarning,
        )
    return np.array(paths, dtype=object)


def _suffixes() -> frozenset[str]:
    """Return the endings of files that Pillow decodes, with the plugins that are registered."""
    return frozenset(
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NOT_DECODED
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _counted(suffixes: dict[str, int]) -> str:
    """Return a text with the number of files of each ending, the most frequent first."""
    pairs = sorted(suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
    some = [f"{suffix or 'without an ending'} ({n})" for suffix, n in pairs[:5]]
    return ", ".join(some) + (", ..." if pairs[5:] else "")


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _OF_SYSTEMS


def _members(archive: str) -> Iterator[str]:
    for name in list_members(archive):
        if not any(_ignored(part) for part in name.split("/") if part not in (".", "..")):
            yield f"{archive}::{name}"


# Folders


class _Listed(NamedTuple):
    """Names in a folder, without those that are ignored or hidden."""

    files: list[str]
    folders: list[str]
    links: list[str]  # to folders


def _listed(folder: str, hidden: bool = False) -> _Listed:
    listed = _Listed([], [], [])
    try:
        with os.scandir(folder or os.curdir) as entries:
            for entry in entries:
                if _ignored(entry.name) and not hidden:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    listed.folders.append(entry.name)
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    listed.links.append(entry.name)
                else:
                    listed.files.append(entry.name)
    except OSError as error:
        raise OSError(
            error.errno,
            f"a folder of images cannot be listed ({error.strerror}); make it readable, or give a "
            "list of paths or a pattern without it",
            folder,
        ) from error
    return listed


def _walk(roots: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below the roots once, and its files; links come last, as they may loop."""
    seen: set[tuple[int, int]] = set()
    links = sorted(root for root in roots if os.path.islink(root))
    folders = [root for root in roots if not os.path.islink(root)]
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        stat = os.stat(folder or os.curdir)
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        listed = _listed(folder)
        yield folder, listed.files
        folders += [os.path.join(folder, name) for name in listed.folders]
        for name in listed.links:
            heapq.heappush(links, os.path.join(folder, name))


def _matches(pattern: str) -> list[str]:
    """Find files and folders as glob does, except for loops of links; no folder is passed over."""
    head, tail = os.path.split(pattern)
    if not glob.has_magic(pattern) or head == pattern:
        return [pattern] if os.path.lexists(pattern or os.curdir) else []
    heads = sorted(set(_matches(head))) if glob.has_magic(head) else [head]
    heads = [folder for folder in heads if os.path.isdir(folder or os.curdir)]
    found: list[str] = []
    if tail == "**":
        for folder, files in _walk(heads):
            found += [folder, *(os.path.join(folder, name) for name in files)]
        return found
    for folder in heads:
        if glob.has_magic(tail):
            listed = _listed(folder, hidden=tail.startswith("."))
            names = fnmatch.filter([name for names in listed for name in names], tail)
            found += [os.path.join(folder, name) for name in names]
        elif os.path.lexists(path := os.path.join(folder, tail)):
            found.append(path)
    return found
