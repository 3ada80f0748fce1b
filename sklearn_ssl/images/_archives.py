"""Images in tar and zip archives (shards of WebDataset), each named ``"shard.tar::member"``."""

import io
import os
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from functools import lru_cache
from typing import NamedTuple

__all__ = ["ARCHIVES", "file_of", "is_member", "list_members", "member_of"]

ARCHIVES = frozenset((".tar", ".zip"))
_MARK = re.compile(r"(?<=\.tar|\.zip)::", re.IGNORECASE)
_ENCRYPTED = 0x1  # a bit of a zip member's flags
_HEADER = 30  # bytes before the name of a zip member


class _Member(NamedTuple):
    """Position and size of a member in an archive, in bytes."""

    start: int
    size: int
    in_zip: zipfile.ZipInfo | None = None


def list_members(archive: str) -> list[str]:
    """Return the names of the files in an archive, in its order."""
    return list(_positions(archive, os.stat(archive).st_mtime_ns))


def is_member(path: str) -> bool:
    """Return whether a path names a member of an archive."""
    return _MARK.search(path) is not None


def file_of(path: str) -> str:
    """Return the file that a path names, or the archive of the member that it names."""
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
        raise ValueError("it is damaged in the archive: its checksum is another one")
    return content


@lru_cache(maxsize=1024)
def _positions(archive: str, _modified: int) -> dict[str, _Member | None]:
    """Locate the files in an archive, once per process; None stands for links to missing ones."""
    try:
        return _of_zip(archive) if archive.lower().endswith(".zip") else _of_tar(archive)
    except (tarfile.ReadError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{archive} is not a zip or a plain tar archive ({error}); images in a compressed one "
            "cannot be read in any order: unpack it"
        ) from error


def _of_tar(archive: str) -> dict[str, _Member | None]:
    found: dict[str, _Member | None] = {}
    links: dict[str, str] = {}
    with tarfile.open(archive, "r:") as tar:
        for one in tar:
            if one.isfile():
                found[one.name] = _Member(one.offset_data, one.size)
            elif one.islnk() or one.issym():
                found[one.name] = None  # its place in the order
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
                f"{archive} is encrypted, or compressed in a way that is not read here; unpack it"
            )
    return {info.filename: _Member(info.header_offset, info.compress_size, info) for info in infos}
