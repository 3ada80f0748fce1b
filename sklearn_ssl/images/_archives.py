"""Images in tar archives (shards of WebDataset), each named ``"shard.tar::member"``."""

import io
import os
import tarfile
from functools import lru_cache

__all__ = ["file_of", "list_members", "member_of"]

_MARK = ".tar::"


def list_members(archive: str, suffixes: frozenset[str]) -> list[str]:
    """Names of the images in an archive, in its order."""
    names = _positions(archive, os.stat(archive).st_mtime_ns)
    return [f"{archive}::{name}" for name in names if os.path.splitext(name)[1].lower() in suffixes]


def file_of(path: str) -> str:
    """The file that a path names, or the archive of the member that it names."""
    archive, mark, _ = path.partition(_MARK)
    return archive + ".tar" if mark else path


def member_of(path: str) -> io.BytesIO | None:
    """The bytes of a member, or None if the path does not name one."""
    if _MARK not in path:
        return None
    archive, member = file_of(path), path.partition(_MARK)[2]
    positions = _positions(archive, os.stat(archive).st_mtime_ns)
    if member not in positions:
        raise FileNotFoundError(path)
    start, size = positions[member]
    with open(archive, "rb") as file:
        file.seek(start)
        return io.BytesIO(file.read(size))


@lru_cache(maxsize=1024)
def _positions(archive: str, _modified: int) -> dict[str, tuple[int, int]]:
    """Where the files in it start, and how long they are: read once a process."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return {one.name: (one.offset_data, one.size) for one in tar if one.isfile()}
    except tarfile.ReadError as error:
        raise ValueError(
            f"{archive} is not a plain tar archive ({error}); images in a compressed one cannot "
            "be read in any order: unpack it"
        ) from error
