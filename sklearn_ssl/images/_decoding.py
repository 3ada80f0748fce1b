"""Files, bytes and pictures, decoded at the size at which they are wanted."""

import io
import math
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

from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images._archives import member_of
from sklearn_ssl.images._targets import Target, fit_array, fit_picture, kind_of, type_of

__all__ = ["Header", "decode", "look", "name_of", "named"]

_KEPT = 2  # times the wanted size that a scaled JPEG has at least, so as to look like a whole one
_TURNED = (5, 6, 7, 8)  # values of EXIF that swap height and width, which Pillow does for TIFF
_ORIENTATION = 0x0112


@cache
def _installed(name: str) -> Any:
    """An optional library, imported when it is first needed; None if it is missing."""
    return import_module(name) if find_spec(name) else None


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image say."""

    height: int
    width: int
    channels: int
    dtype: str


def name_of(item: Any) -> str:
    """What to call an image in messages."""
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, dict) and item.get("path"):
        return str(item["path"])
    return f"an image given as {type(item).__name__}"


def look(item: Any) -> Header:
    """Height, width, channels and dtype of an image, without decoding it.

    Raises
    ------
    ImageReadError
        If it cannot be read.
    """
    return named(name_of(item), _look, item)


def decode(item: Any, target: Target) -> np.ndarray:
    """An image as an array (h, w, c).

    Raises
    ------
    ImageReadError
        If it cannot be read.
    """
    return named(name_of(item), _decode, item, target)


def named(name: str, function: Any, *arguments: Any) -> Any:
    """Call it, and have an error say which image it is about: decoders raise many kinds."""
    try:
        return function(*arguments)
    except (MemoryError, ImageReadError):
        raise
    except Image.DecompressionBombError as error:
        reason = f"{error} Set PIL.Image.MAX_IMAGE_PIXELS higher if you trust it"
    except FileNotFoundError:
        reason = "there is no such file"
    except UnidentifiedImageError:
        reason = "it is no image that Pillow knows"
        if not _installed("tifffile") and name.lower().endswith((".tif", ".tiff")):
            reason += "; more kinds of TIFF are read after pip install 'sklearn-ssl[tiff]'"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise ImageReadError(f"cannot read {name}: {reason}")


def _look(item: Any) -> Header:
    array = _as_array(item)
    if array is not None:
        return _header_of(array)
    with _opened(item) as file:
        image = _picture(item, file)
        if image is None:
            return _header_of(_read_tiff(file))
        _refuse_frames(image)
        width, height = image.size
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in _TURNED:
            height, width = width, height
        channels, dtype = kind_of(image.mode)
        return Header(height, width, channels, dtype)


def _header_of(array: np.ndarray) -> Header:
    height, width, channels = array.shape
    return Header(height, width, channels, type_of(array.dtype))


def _decode(item: Any, target: Target) -> np.ndarray:
    array = _as_array(item)
    if array is not None:
        return fit_array(array, target)
    with _opened(item) as file:
        image = _picture(item, file)
        if image is None:
            return fit_array(_read_tiff(file), target)
        _refuse_frames(image)
        return fit_picture(_load(image, file, target), target)


# Where the bytes are


def _opened(item: Any) -> Any:
    """A file of the bytes; pictures have none."""
    if isinstance(item, dict):  # an image of Hugging Face's datasets that is not decoded
        item = item["path"] if item.get("bytes") is None else item["bytes"]
    if isinstance(item, Image.Image):
        return nullcontext()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return io.BytesIO(item)
    return member_of(os.fspath(item)) or open(item, "rb")


def _as_array(item: Any) -> np.ndarray | None:
    """What datasets give as tensors (c, h, w) or arrays (h, w, c), as (h, w, c)."""
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu().numpy()
        item = item.transpose(1, 2, 0) if item.ndim == 3 else item
    if not isinstance(item, np.ndarray):
        return None
    if item.ndim not in (2, 3) or item.dtype.kind not in "biuf" or 0 in item.shape:
        raise ValueError(f"an array of shape {item.shape} and dtype {item.dtype} is no image")
    return item.reshape(*item.shape[:2], -1)


def _picture(item: Any, file: Any) -> Image.Image | None:
    """The image, not yet decoded; None if it is a TIFF that Pillow does not know."""
    if isinstance(item, Image.Image):
        return item
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        if not _installed("tifffile") or file.read(4)[:2] not in (b"II", b"MM"):
            raise
        file.seek(0)
        return None


def _refuse_frames(image: Image.Image) -> None:
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo and its preview
        raise ValueError(
            f"it has {getattr(image, 'n_frames', 'several')} frames or pages; save those that you "
            "want as files of their own"
        )


# Decoders


def _load(image: Image.Image, file: Any, target: Target) -> Image.Image:
    """Decode, at a fraction of the size where the format can, and turn as EXIF says."""
    orientation = image.getexif().get(_ORIENTATION)
    if image.format in ("JPEG", "MPO") and file is not None:
        width, height = image.size
        turned = orientation in _TURNED
        sides = target.size_of(width, height)[::-1] if turned else target.size_of(height, width)
        needed = _KEPT * sides[0], _KEPT * sides[1]
        fast = _load_fast(image, file, needed)
        if fast is not None:
            fast.info["exif"] = image.info.get("exif", b"")
            image = fast
        else:
            image.draft(None, needed[::-1])
    return image if orientation in (None, 1) else ImageOps.exif_transpose(image)


def _load_fast(image: Image.Image, file: Any, needed: tuple[int, int]) -> Image.Image | None:
    """By simplejpeg; None where it is missing, or stricter than Pillow."""
    simplejpeg = _installed("simplejpeg")
    if simplejpeg is None or image.mode not in ("L", "RGB"):
        return None
    # a half, a quarter or an eighth, as Pillow takes: what is between is slower than the whole
    factors = [
        f for f in (8, 4, 2) if image.height >= f * needed[0] and image.width >= f * needed[1]
    ]
    factor = factors[0] if factors else 1
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


def _read_tiff(file: Any) -> np.ndarray:
    """By tifffile: any number of bands, in any type."""
    with _installed("tifffile").TiffFile(file) as tiff:
        series = tiff.series[0]
        _refuse_bombs(series.shape)
        if len(tiff.series) > 1 or any(axis not in "YXSC" for axis in series.axes):
            raise ValueError(
                f"it has several pages or axes ({series.axes}, {series.shape}); save those that "
                "you want as files of their own"
            )
        array = series.asarray()
        if series.axes in ("SYX", "CYX"):
            array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3):
        raise ValueError(f"it is an array of shape {series.shape}, which is no image")
    return array.reshape(*array.shape[:2], -1)


def _refuse_bombs(shape: tuple[int, ...]) -> None:
    """As Pillow does for the files that it reads."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and math.prod(shape) > 2 * limit:
        raise Image.DecompressionBombError(
            f"{math.prod(shape)} values are more than the limit of {2 * limit} pixels"
        )
