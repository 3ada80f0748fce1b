"""Decoding of files, bytes and PIL images at the size that is needed."""

import io
import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images._dicom import is_dicom, open_dicom
from sklearn_ssl.images._listing import hint_for, member_of, register_plugins
from sklearn_ssl.images._read import as_array, has_planes
from sklearn_ssl.images._targets import (
    Pages,
    Planes,
    Target,
    fit_array,
    fit_picture,
    kind_of,
    turned,
    type_of,
)
from sklearn_ssl.images._tiff import layout_of, loss_of, open_planes, too_few

_KEPT = 2  # scaled JPEGs are at least this many times the target size, to match a full decode
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width; Pillow does it for TIFF
_ORIENTATION = 0x0112
_MORE = "pip install 'sklearn-ssl[tiff]' to read more kinds of TIFF"


@cache
def _installed(name: str) -> Any:
    """Import an optional library on first use; return None if it is missing."""
    return import_module(name) if find_spec(name) else None


@dataclass(frozen=True)
class Header:
    """Shape and dtype of an image, from its first bytes or from a NumPy or torch array."""

    height: int
    width: int
    channels: int
    dtype: str
    of_array: bool = False
    of_torch: bool = False


def name_of(item: Any, row: str) -> str:
    """Return an image's name for messages: its path, or its ``row`` such as ``"row 3 of X"``."""
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, dict) and item.get("path"):
        return f"{row} ({item['path']})"
    return f"{row}, given as {type(item).__name__}"


def look(item: Any, row: str, pages: Pages, channel_order: str) -> Header:
    """Read height, width, channels and dtype of an image, without decoding it.

    Raises
    ------
    ImageReadError
        If it cannot be read; the message names the path or the ``row``.
    """
    return named(name_of(item, row), _look, item, pages, channel_order)


def decode(item: Any, row: str, target: Target) -> np.ndarray:
    """Decode an image to an array (h, w, c).

    Raises
    ------
    ImageReadError
        If it cannot be read; the message names the path or the ``row``.
    """
    return named(name_of(item, row), _decode, item, target)


def named(name: str, function: Any, *arguments: Any) -> Any:
    """Call a function and name the image in its errors."""
    try:
        return function(*arguments)
    except (MemoryError, ImageReadError):
        raise
    except Image.DecompressionBombError as error:
        reason = f"{error} Set PIL.Image.MAX_IMAGE_PIXELS higher if you trust it"
    except FileNotFoundError:
        reason = "there is no such file"
    except UnidentifiedImageError:
        reason = "Pillow does not recognize it as an image"
        if not _installed("tifffile") and name.lower().endswith((".tif", ".tiff")):
            reason += f"; {_MORE}"
        reason += hint_for([os.path.splitext(name)[1].lower()])
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise ImageReadError(f"cannot read {name}: {reason}")


def _look(item: Any, pages: Pages, channel_order: str) -> Header:
    array = _as_array(item, channel_order)
    if array is not None:
        height, width, channels = array.shape
        of_torch = isinstance(item, torch.Tensor)
        return Header(height, width, channels, type_of(array.dtype), True, of_torch)
    with _opened(item) as file:
        image = _picture(item, file, pages)
        if isinstance(image, Planes):
            height, width, channels = image.shape
            channels -= image.alpha in ("straight", "premultiplied")
            return Header(height, width, channels, type_of(image.dtype))
        width, height = image.size
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _TURNED:
            height, width = width, height
        channels, dtype = kind_of(image.mode)
        return Header(height, width, channels, dtype)


def _decode(item: Any, target: Target) -> np.ndarray:
    array = _as_array(item, target.channel_order)
    if array is not None:
        try:
            return fit_array(array, target)
        except ValueError as error:
            planes, hint = has_planes(item, target.channel_order, ndim=3), ""
            if item.ndim == 3 and item.shape[-1 if planes else 0] == target.channels:
                hint = f"; did you mean channel_order='{'last' if planes else 'first'}'?"
            raise ValueError(f"{error}{hint}") from None
    with _opened(item) as file:
        image = _picture(item, file, target.pages)
        if isinstance(image, Planes):
            return fit_array(image.read(), target, image.alpha)
        return fit_picture(_load(image, file, target), target)


# Sources of the bytes


def _opened(item: Any) -> Any:
    """Open the item's bytes as a file; PIL images have none."""
    if isinstance(item, dict):  # an undecoded image of a Hugging Face dataset
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if isinstance(item, Image.Image):
        return nullcontext()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return io.BytesIO(item)
    if not isinstance(item, (str, os.PathLike)):
        raise ValueError("it is not a path, bytes, a PIL image or an array")
    path = os.path.expanduser(os.fspath(item))
    return member_of(path) or open(path, "rb")


def _as_array(item: Any, channel_order: str) -> np.ndarray | None:
    """Return an array or tensor as (h, w, c), or None for any other item."""
    if not isinstance(item, (torch.Tensor, np.ndarray)):
        return None
    planes = has_planes(item, channel_order, ndim=3)
    array = as_array(item)
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} and dtype {array.dtype} is not an image")
    if planes and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    return array.reshape(*array.shape[:2], -1)


def _picture(item: Any, file: Any, pages: Pages) -> Image.Image | Planes:
    """Open an image without decoding it."""
    if isinstance(item, Image.Image):
        loss = loss_of(item.tag_v2) if isinstance(item, TiffImageFile) else _lost_of(item)
        if loss:
            raise ValueError(
                f"it has {loss}, which PIL images cannot hold; give the path of the file instead"
            )
        if _n_frames(item) > 1:
            raise ValueError(
                f"it has {_n_frames(item)} frames or pages; give the one you want as "
                "image.copy(), or the path of the file"
            )
        return item
    if is_dicom(file):
        if not _installed("pydicom"):
            raise ValueError("it is a DICOM file; pip install 'sklearn-ssl[dicom]' to read it")
        return open_dicom(file, pages)
    layout = layout_of(file, pages)
    if layout is not None and layout.loss:
        if not _installed("tifffile"):
            raise ValueError(_not_whole(layout.loss))
        return open_planes(file, pages)
    register_plugins()
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        if not _installed("tifffile") or file.read(4)[:2] not in (b"II", b"MM"):
            raise
        return open_planes(file, pages)
    if layout is not None:
        image.seek(layout.page)
    else:
        _seek(image, pages)
    loss = _lost_of(image)
    if not loss:
        return image
    if image.format != "PNG":
        raise ValueError(f"it has {loss}, which Pillow cannot read fully; save it as TIFF or PNG")
    if not _installed("imagecodecs"):
        raise ValueError(_not_whole(loss))
    return _deep_png(image, file)


def _not_whole(loss: str) -> str:
    kind = "those that are channels" if "pages" in loss else "them"
    return (
        f"it has {loss}, which Pillow cannot read fully; pip install 'sklearn-ssl[tiff]' to read "
        f"{kind}"
    )


def _n_frames(image: Image.Image) -> int:
    if image.format == "MPO" or not getattr(image, "is_animated", False):  # a photo and its preview
        return 1
    return getattr(image, "n_frames", 2)


def _seek(image: Image.Image, pages: Pages) -> None:
    """Seek to the requested frame."""
    n = _n_frames(image)
    if isinstance(pages, int):
        if pages >= n:
            raise ValueError(too_few(n, pages))
        if pages > 0:
            image.seek(pages)
    elif n > 1:
        raise ValueError(f"it has {n} frames or pages; pages=0 reads the first one")


def _lost_of(image: Image.Image) -> str:
    """Return what Pillow would lose of an image that is not a TIFF, or an empty string."""
    if image.format == "JPEG2000":
        return _lost_of_jpeg_2000(image)
    if not isinstance(image, ImageFile):
        return ""
    for codec, _, _, how in image.tile:
        how = how if isinstance(how, tuple) else (how,)
        deep = codec == "SGI16" or ";16B" in str(how[0])
        deep = deep or (codec.startswith("ppm") and len(how) > 1 and how[1] > 255)
        if deep and kind_of(image.mode)[1] == "uint8":
            return "16-bit colors"
    return ""


def _lost_of_jpeg_2000(image: Image.Image) -> str:
    file = getattr(image, "fp", None)
    if file is None or image.mode == "CMYK":  # already decoded, or in four colors
        return ""
    place = file.tell()
    file.seek(0)
    start = file.read(4096)
    file.seek(place)
    at = start.find(b"\xff\x4f\xff\x51")  # marker before the number of components and their bits
    if at < 0:
        return ""
    parts = int.from_bytes(start[at + 40 : at + 42], "big")
    bits = (start[at + 42] & 0x7F) + 1
    if parts in (2, 4) and b"cdef" not in start[:at]:
        return f"{parts} bands"
    return f"{bits}-bit colors" if parts > 1 and bits > 8 else ""


# Decoders


def _deep_png(image: Any, file: Any) -> Planes:
    """Open a PNG with 16-bit colors, to be decoded by imagecodecs."""
    channels = {"RGB;16B": 3, "LA;16B": 2, "RGBA;16B": 4}[image.tile[0][3]]
    if "transparency" in image.info:
        raise ValueError("it has a 16-bit transparent color; save it with an alpha channel")
    orientation = image.getexif().get(_ORIENTATION)
    height, width = image.size if orientation in _TURNED else image.size[::-1]

    def read() -> np.ndarray:
        file.seek(0)
        return turned(_installed("imagecodecs").png_decode(file.read()), orientation)

    alpha = "none" if channels == 3 else "straight"
    return Planes((height, width, channels), np.dtype(np.uint16), read, alpha)


def _load(image: Image.Image, file: Any, target: Target) -> Image.Image:
    """Decode, at reduced size if the format supports it, and apply the EXIF orientation."""
    orientation = image.getexif().get(_ORIENTATION)
    if image.format in ("JPEG", "MPO") and file is not None:
        width, height = image.size
        sideways = orientation in _TURNED
        sides = target.size_of(width, height)[::-1] if sideways else target.size_of(height, width)
        needed = _KEPT * sides[0], _KEPT * sides[1]
        fast = _load_fast(image, file, needed)
        if fast is not None:
            fast.info["exif"] = image.info.get("exif", b"")
            image = fast
        else:
            image.draft(None, needed[::-1])
    return image if orientation in (None, 1) else ImageOps.exif_transpose(image)


def _load_fast(image: Image.Image, file: Any, needed: tuple[int, int]) -> Image.Image | None:
    """Decode with simplejpeg; return None if it is missing or rejects what Pillow may accept."""
    simplejpeg = _installed("simplejpeg")
    if simplejpeg is None or image.mode not in ("L", "RGB"):
        return None
    # 1/2, 1/4 or 1/8, as in Pillow: fractions in between are slower than full size
    most = min(image.height // needed[0], image.width // needed[1])
    factor = next((f for f in (8, 4, 2) if f <= most), 1)
    file.seek(0)
    try:
        array = simplejpeg.decode_jpeg(
            file.read(),
            colorspace="GRAY" if image.mode == "L" else "RGB",
            min_height=-(-image.height // factor),
            min_width=-(-image.width // factor),
        )
    except ValueError:
        return None
    return Image.fromarray(array[..., 0] if image.mode == "L" else array)
