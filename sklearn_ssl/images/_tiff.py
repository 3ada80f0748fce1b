"""TIFF files: pages that are images, what Pillow would lose of them, reading with tifffile."""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sklearn_ssl.images._targets import Pages, Planes, turned

# Tags
_KIND, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 254, 256, 257, 258, 262
_DESCRIPTION, _ORIENTATION, _SAMPLES, _EXTRA, _FORMAT = 270, 274, 277, 338, 339

_NO_IMAGE = 1 | 4  # bits of the kind: reduced copy, mask
_ALPHA = {1: "premultiplied", 2: "straight"}  # by the extra samples tag
_SIGNED = 2  # value of the sample format tag
_SAMPLES_OF_COLOR = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by the photometric tag
_COLORS = {3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB"}  # not converted to RGB by tifffile
_JPEG = (6, 7)
_HEADERS = (b"II*\0", b"MM\0*", b"II+\0")  # the third is for files over 4 GB


@dataclass(frozen=True)
class Layout:
    """Page of a TIFF to read, and what Pillow would lose of it.

    Parameters
    ----------
    page : int
        Index of the wanted page in the file.
    loss : str
        Part that Pillow would lose, or an empty string.
    """

    page: int
    loss: str


def layout_of(file: Any, pages: Pages) -> Layout | None:
    """Read the tags of a TIFF; return None for another file and for damaged tags.

    Parameters
    ----------
    file : binary file
        File, rewound to its start afterward.
    pages : int, "channels" or None
        As for learners.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(0)
    if magic not in _HEADERS:
        return None
    wanted = pages if isinstance(pages, int) else None
    found: list[tuple[int, Any]] = []  # pages that are images, as far as needed
    others: list[tuple[int, Any]] = []
    try:
        for page in enumerate(_directories(file)):
            (others if page[1].get(_KIND, 0) & _NO_IMAGE else found).append(page)
            if len(found) > (1 if wanted is None else wanted):
                break
        found = found or others[:1]
        n = max(len(found), _planes_in(found[0][1]))
    except (OSError, SyntaxError, KeyError, TypeError, struct.error):
        return None
    finally:
        file.seek(0)
    if n > 1 and not (wanted is not None and wanted < len(found)):
        return Layout(found[0][0], "several frames or pages")
    if (wanted or 0) >= n:
        raise ValueError(too_few(n, wanted))
    number, tags = found[wanted or 0]
    return Layout(number, loss_of(tags))


def _directories(file: Any) -> Iterator[Any]:
    header = file.read(16)
    header = header if header[2] == 43 else header[:8]
    start, seen = ImageFileDirectory_v2(header).next, set()
    while start and start not in seen:  # the chain may be circular
        seen.add(start)
        tags = ImageFileDirectory_v2(header)
        file.seek(start)
        tags.load(file)
        yield tags
        start = tags.next


def _planes_in(tags: Any) -> int:
    """Return the number of pages that ImageJ or tifffile declare without tags for each page."""
    text = str(tags.get(_DESCRIPTION, ""))
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 1
    if text.startswith('{"shape": ['):
        try:
            shape = json.loads(text)["shape"]
        except ValueError:
            return 1
        return math.prod(shape) // max(1, tags[_HEIGHT] * tags[_WIDTH] * tags.get(_SAMPLES, 1))
    return 1


def too_few(n: int, wanted: Pages) -> str:
    """Return the message for a page that does not exist."""
    return f"pages={wanted} asks for page {wanted}, but it has {n}, counting from 0"


def loss_of(tags: Any) -> str:
    """Return what Pillow would lose of a page with these tags, or an empty string."""
    samples, bits = tags.get(_SAMPLES, 1), max(_several(tags.get(_BITS, 1)))
    colors = _SAMPLES_OF_COLOR.get(tags.get(_PHOTOMETRIC))
    formats = _several(tags.get(_FORMAT, 1))
    if colors is None:  # Pillow reads it fully or not at all
        return ""
    extra = samples - colors
    if extra > 1 or (extra == 1 and _several(tags.get(_EXTRA, 0))[-1] not in _ALPHA):
        return f"{samples} bands"
    if samples > 1 and bits > 8:
        return f"{bits}-bit colors"
    if bits == 8 and _SIGNED in formats:
        return "signed bytes"
    if bits > 32:
        return f"{bits}-bit values"
    if bits == 32 and formats == (1,):
        return "unsigned 32-bit integers"
    return ""


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def open_planes(file: Any, pages: Pages) -> Planes:
    """Open an image with any number of bands and any dtype with tifffile."""
    file.seek(0)
    tiff = import_module("tifffile").TiffFile(file)
    series = [one for one in tiff.series if not one.keyframe.subfiletype & _NO_IMAGE]
    series = series or list(tiff.series)
    keyframe = series[0].keyframe
    if isinstance(pages, int):
        source, axes, shape, keyframe = _page_of(series, pages)
    else:
        source, axes, shape = series[0].asarray, series[0].axes, series[0].shape
        known = "YXSC" if pages is None else axes
        if len(series) > 1 or set(axes) - set(known) or (pages is None and {*"SC"} <= {*axes}):
            found = ", ".join(f"{one.axes} of shape {one.shape}" for one in series)
            stacked = "pages='channels' reads all as channels, " if len(series) == 1 else ""
            raise ValueError(
                f"it has frames or pages that are not declared as channels ({found}); {stacked}"
                "pages=0 reads the first one"
            )
    if not {*"YX"} <= {*axes}:
        raise ValueError(f"it is an array of shape {shape}, which is not an image")
    _refuse_bombs(shape)
    _refuse_colors(keyframe)
    orientation = keyframe.tags.valueof(_ORIENTATION, 1)

    def read() -> np.ndarray:
        array = np.moveaxis(source().reshape(shape), (axes.index("Y"), axes.index("X")), (0, 1))
        return turned(array.reshape(*array.shape[:2], -1), orientation)

    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    channels = math.prod(shape) // (height * width)
    if orientation > 4:
        height, width = width, height
    deep = keyframe.dtype in (np.uint8, np.uint16) and keyframe.samplesperpixel == channels
    alpha = _ALPHA.get((keyframe.extrasamples or (0,))[-1]) if deep and channels in (2, 4) else None
    return Planes((height, width, channels), keyframe.dtype, read, alpha)


def _page_of(series: Any, number: int) -> tuple[Callable[[], np.ndarray], str, tuple, Any]:
    """Return a function that reads one page, and its axes, shape and keyframe (with the tags)."""
    left = number
    for one in series:
        inner = [at for at, axis in enumerate(one.axes) if axis in "YXS"]
        axes, shape = "".join(one.axes[at] for at in inner), tuple(one.shape[at] for at in inner)
        n = math.prod(one.shape) // max(1, math.prod(shape))
        if left < n:
            if len(one.pages) == n and one.pages[left] is not None:
                read = one.pages[left].asarray
            else:  # a stack with tags for its first page only
                order = [at for at in range(one.ndim) if at not in inner] + inner
                read = partial(_plane_of, one, order, (n, *shape), left)
            return read, axes, shape, one.keyframe
        left -= n
    raise ValueError(too_few(number - left, number))


def _plane_of(series: Any, order: list[int], shape: tuple[int, ...], number: int) -> np.ndarray:
    return series.asarray().transpose(order).reshape(shape)[number]


def _refuse_colors(page: Any) -> None:
    photometric = int(page.photometric or 0)
    if photometric in _COLORS and not (photometric == 6 and page.compression in _JPEG):
        raise ValueError(
            f"it has {_COLORS[photometric]} colors in a form that Pillow cannot read fully; save "
            "it as RGB"
        )


def _refuse_bombs(shape: tuple[int, ...]) -> None:
    """Raise an error for images that are too large, as Pillow does for files that it reads."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and math.prod(shape) > 2 * limit:
        raise Image.DecompressionBombError(
            f"{math.prod(shape)} values exceed the limit of {2 * limit} pixels."
        )
