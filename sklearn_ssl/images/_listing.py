"""Listing of images in folders, and in tar and zip archives as ``"shard.tar::member"``."""

import fnmatch
import glob
import heapq
import io
import os
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sklearn_ssl._utils._messages import failure_named, warn
from sklearn_ssl.exceptions import ImageReadWarning

ARCHIVES = frozenset((".tar", ".zip"))
_MARK = re.compile(r"(?<=\.tar|\.zip)::", re.IGNORECASE)
_ENCRYPTED = 0x1  # a bit of a zip member's flags
_HEADER = 30  # bytes before a zip member's name


class _Member(NamedTuple):
    """Offset and size of a member in an archive, in bytes."""

    start: int
    size: int
    in_zip: zipfile.ZipInfo | None = None


def is_member(path: str) -> bool:
    """Return whether a path names a member of an archive."""
    return _MARK.search(path) is not None


def file_of(path: str) -> str:
    """Return the path itself, or the archive if the path names a member."""
    return _MARK.split(path, maxsplit=1)[0]


def member_of(path: str) -> io.BytesIO | None:
    """Read the bytes of a member, or return None if the path does not name one."""
    if not is_member(path):
        return None
    archive, name = _MARK.split(path, maxsplit=1)
    positions = _positions(archive, os.stat(archive).st_mtime_ns)
    member = positions.get(name)
    if member is None:
        raise FileNotFoundError(path)
    with open(archive, "rb") as file:
        file.seek(member.start)
        if member.in_zip is not None:
            file.seek(sum(struct.unpack("<HH", file.read(_HEADER)[26:])), os.SEEK_CUR)
        content = file.read(member.size)
    return io.BytesIO(content if member.in_zip is None else _unzipped(content, member.in_zip))


def _unzipped(content: bytes, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type == zipfile.ZIP_DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, max(1, info.file_size))
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError("it is damaged in the archive: its checksum does not match")
    return content


@lru_cache(maxsize=1024)
def _positions(archive: str, _modified: int) -> dict[str, _Member | None]:
    """Locate the files in an archive, once per process; links to missing files map to None."""
    try:
        return _of_zip(archive) if archive.lower().endswith(".zip") else _of_tar(archive)
    except (tarfile.ReadError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{archive} is not a zip or an uncompressed tar archive ({error}); compressed tar "
            "archives have no random access: unpack it"
        ) from error


def _of_tar(archive: str) -> dict[str, _Member | None]:
    found: dict[str, _Member | None] = {}
    links: dict[str, str] = {}
    with tarfile.open(archive, "r:") as tar:
        for one in tar:
            if one.isfile():
                found[one.name] = _Member(one.offset_data, one.size)
            elif one.islnk() or one.issym():
                found[one.name] = None  # keeps its position in the order
                beside = posixpath.join(posixpath.dirname(one.name), one.linkname)
                links[one.name] = posixpath.normpath(beside) if one.issym() else one.linkname
    for name, target in links.items():
        found[name] = found.get(target)
    return found


def _of_zip(archive: str) -> dict[str, _Member | None]:
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if not info.is_dir()]
    for info in infos:
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or info.flag_bits & _ENCRYPTED:
            raise ValueError(
                f"{archive} is encrypted or has an unsupported compression method; unpack it"
            )
    return {info.filename: _Member(info.header_offset, info.compress_size, info) for info in infos}


# formats that Pillow opens but cannot decode, or only by running another program
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
EXTRAS = {  # the library that each installs, and the extensions of files that it reads
    "dicom": ("pydicom", (".dcm", ".dicom")),
    "heic": ("pillow_heif", (".heic", ".heics", ".heif", ".heifs", ".hif")),
}
_OF_SYSTEMS = {"__MACOSX", "@eaDir"}  # added by macOS to archives and by Synology to folders
_EXPECTED = {  # extensions of other files that often accompany images
    *(".cls", ".csv", ".db", ".html", ".id", ".index", ".ini", ".json", ".jsonl", ".log", ".md"),
    *(".tsv", ".txt", ".xml", ".yaml", ".yml"),
}


def list_images(source: Any) -> np.ndarray:
    """List the paths of all images in a folder, its subfolders, a pattern, or tar or zip archives.

    Split the paths with scikit-learn and give them to any learner. A file is an image if it has an
    extension that Pillow, with its plugins, or pydicom can read; a warning counts other files.
    Hidden files and folders are ignored. Links are followed, and each folder is listed once.

    Parameters
    ----------
    source : str or path
        A folder, a pattern (``"photos/**/*.jpg"``), or a tar or zip archive such as a WebDataset
        shard; a pattern may also match several archives.

    Returns
    -------
    ndarray of str, as objects
        Sorted paths; members of archives are named ``"shard.tar::member"``, in archive order.

    Raises
    ------
    FileNotFoundError
        If there are no images.
    OSError
        If a folder cannot be listed, for example for lack of permission.

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
            f"X={source!r} must be a folder, a pattern or an archive of images, but there are "
            + (f"none that can be read, only {_counted(others)}" if others else "none")
            + hint_for(others)
        )
    if left_out := {suffix: n for suffix, n in others.items() if suffix not in _EXPECTED}:
        warn(
            f"{sum(left_out.values())} of {len(paths) + others.total()} files in {source!r} are "
            f"left out, because their extensions are not those of images: {_counted(left_out)}"
            f"{hint_for(left_out)}",
            ImageReadWarning,
        )
    return np.array(paths, dtype=object)


@cache
def register_plugins() -> None:
    """Let Pillow read HEIC files, if the plugin is installed."""
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()


def _suffixes() -> set[str]:
    """Return the extensions of files that Pillow, with its plugins, or pydicom decodes."""
    register_plugins()
    suffixes = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NOT_DECODED
    }
    return suffixes | set(EXTRAS["dicom"][1]) if find_spec("pydicom") else suffixes


def hint_for(suffixes: Iterable[str]) -> str:
    """Return how to read files, if an optional library that is not installed reads them."""
    hints = [
        f"; pip install 'sklearn-ssl[{extra}]' to read {', '.join(found)}"
        for extra, (library, known) in EXTRAS.items()
        if not find_spec(library) and (found := sorted(set(known).intersection(suffixes)))
    ]
    return "".join(hints)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _counted(suffixes: dict[str, int]) -> str:
    """Describe the number of files with each extension, most frequent first."""
    pairs = sorted(suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
    some = [f"{suffix or 'no extension'} ({n})" for suffix, n in pairs[:5]]
    return ", ".join(some) + (", ..." if pairs[5:] else "")


def _ignored(name: str) -> bool:
    return name.startswith(".") or name in _OF_SYSTEMS


def _members(archive: str) -> Iterator[str]:
    for name in _positions(archive, os.stat(archive).st_mtime_ns):  # in archive order
        if not any(_ignored(part) for part in name.split("/") if part not in (".", "..")):
            yield f"{archive}::{name}"


# Folders


def _listed(folder: str, hidden: bool = False) -> list[os.DirEntry]:
    """List a folder, without ignored and hidden entries."""
    what = (
        "a folder of images cannot be listed ({}); make it readable, or give a list of paths or a "
        "pattern that excludes it"
    )
    with failure_named(what, folder), os.scandir(folder or os.curdir) as entries:
        return [entry for entry in entries if hidden or not _ignored(entry.name)]


def _walk(roots: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below the roots once, with its files; links come last, as they may loop."""
    seen: set[tuple[int, int]] = set()
    links = sorted(root for root in roots if os.path.islink(root))
    folders = [root for root in roots if not os.path.islink(root)]
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        stat = os.stat(folder or os.curdir)
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        files = []
        for entry in _listed(folder):
            if entry.is_dir(follow_symlinks=False):
                folders.append(os.path.join(folder, entry.name))
            elif os.path.isdir(entry.path):
                heapq.heappush(links, os.path.join(folder, entry.name))
            else:
                files.append(entry.name)
        yield folder, files


def _matches(pattern: str) -> list[str]:
    """Find files and folders like glob, but without link loops or skipped unreadable folders."""
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
            names = fnmatch.filter([entry.name for entry in listed], tail)
            found += [os.path.join(folder, name) for name in names]
        elif os.path.lexists(path := os.path.join(folder, tail)):
            found.append(path)
    return found
