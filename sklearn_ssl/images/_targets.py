"""Conversion of decoded images to a target size, number of channels and dtype."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

Pages = int | str | None  # like the learners' argument

_GRAY = ("1", "L", "LA", "La")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_FLOATS = ("I", "F")
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_OF_BANDS = ("TIFF", "JPEG2000")  # formats whose fourth channel may be something other than alpha
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Pillow's weights of red, green and blue
_FAR = 16  # longest part of an image that is resized, relative to the target
_LONGEST = 1.5  # longest side of a whole image, relative to its shorter side


@dataclass(frozen=True)
class Target:
    """Size, channels and dtype to which images are decoded.

    Parameters
    ----------
    height, width : int
    channels : int
    dtype : str
        uint8, uint16 or float32.
    whole : bool
        Treat height and width as minima: larger images are shrunk to cover them, smaller ones are
        not enlarged, and only the ends of very long images are cut off.
    pages : int, "channels" or None
        Pages of each file to read.
    channel_order : {"auto", "first", "last"}, default="auto"
        Axis order of items that are arrays.
    of_bands : bool, default=False
        True if the fourth channel is not alpha, so it cannot be added to images without one.
    resize : {"crop", "pad", "squash"}, default="crop"
        How an image of another aspect ratio gets these sides: resized to cover them, and unless it
        is ``whole`` center-cropped; resized to fit into them, with 0 on both sides; or stretched.
    """

    height: int
    width: int
    channels: int
    dtype: str = "uint8"
    whole: bool = False
    pages: Pages = None
    channel_order: str = "auto"
    of_bands: bool = False
    resize: str = "crop"

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which an image is resized."""
        factors = self.height / height, self.width / width
        if self.resize == "squash":
            factor = min(1.0, max(factors)) / max(factors) if self.whole else 1.0
            return max(1, round(self.height * factor)), max(1, round(self.width * factor))
        factor = min(factors) if self.resize == "pad" else max(factors)
        if self.whole:
            factor = min(factor, 1.0)
        sides = max(1, round(height * factor)), max(1, round(width * factor))
        if self.whole or self.resize == "pad":
            return sides
        return max(sides[0], self.height), max(sides[1], self.width)

    def middle_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the part to resize, without the far ends."""
        if self.resize != "crop":
            return 0, 0, width, height
        factor = max(self.height / height, self.width / width)
        rows = min(height, int(_FAR * self.height / factor) + 1)
        columns = min(width, int(_FAR * self.width / factor) + 1)
        top, left = (height - rows) // 2, (width - columns) // 2
        return left, top, left + columns, top + rows

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Center-crop or pad a resized image (h, w, c)."""
        height, width = array.shape[:2]
        if self.resize == "squash":
            return array
        if self.resize == "pad":
            return self._padded(array)
        if self.whole:
            longest = int(_LONGEST * min(height, width))
            sides = min(height, longest), min(width, longest)
        else:
            sides = self.height, self.width
        top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
        return array[top : top + sides[0], left : left + sides[1]]

    def _padded(self, array: np.ndarray) -> np.ndarray:
        """Add 0 on both sides; a whole image gets the aspect ratio only, unless it is smaller."""
        height, width, channels = array.shape
        factor = max(height / self.height, width / self.width) if self.whole else 1.0
        sides = max(height, round(self.height * factor)), max(width, round(self.width * factor))
        padded = np.zeros((*sides, channels), array.dtype)
        top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
        padded[top : top + height, left : left + width] = array
        return padded


@dataclass(frozen=True)
class Planes:
    """Image that is not read yet, with channels that Pillow cannot hold.

    Parameters
    ----------
    shape : tuple of int
        h, w, c; c includes alpha.
    dtype : dtype
    read : callable
        Function that returns the array (h, w, c).
    alpha : {"straight", "premultiplied", "none"} or None
        Kind of alpha in the last channel; ``"none"`` if the image is opaque and an alpha channel
        can be added, None if its channels are not colors.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    alpha: str | None = None


def kind_of(mode: str) -> tuple[int, str]:
    """Return the channels (1 or 3) and dtype of images in a Pillow mode."""
    dtype = "float32" if mode in _FLOATS else "uint16" if mode in _DEEP else "uint8"
    return (1 if mode in (*_GRAY, *_DEEP, *_FLOATS) else 3), dtype


def type_of(dtype: np.dtype) -> str:
    """Return the dtype to which values of a dtype are converted."""
    if dtype.kind == "b" or dtype == np.uint8:
        return "uint8"
    return "uint16" if dtype == np.uint16 else "float32"


def fit_picture(image: Image.Image, target: Target) -> np.ndarray:
    """Convert a PIL image to an array (h, w, c) that fits the target."""
    channels, dtype = kind_of(image.mode)
    if not dtype == target.dtype == "uint8":
        wanted = 4 if target.channels == 4 else channels
        array = np.asarray(image if dtype != "uint8" else _in_mode(image, wanted, target.of_bands))
        alpha = None if image.format in _OF_BANDS else "none"
        return fit_array(array.reshape(*array.shape[:2], -1), target, alpha)
    image = _in_mode(image, target.channels, target.of_bands)
    middle = target.middle_of(image.height, image.width)
    if middle != (0, 0, *image.size):
        image = image.crop(middle)
    height, width = target.size_of(image.height, image.width)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return target.cut(array.reshape(*array.shape[:2], -1))


def fit_array(array: np.ndarray, target: Target, alpha: str | None = None) -> np.ndarray:
    """Convert an array (h, w, c) to fit the target; ``alpha`` is as in :class:`Planes`."""
    if alpha == "none" and target.of_bands:
        alpha = None
    if alpha is not None:
        array = _with_alpha(array, alpha) if target.channels == 4 else _on_white(array, alpha)
    array = _with_channels(_of_type(array, target.dtype), target.channels)
    left, top, right, bottom = target.middle_of(*array.shape[:2])
    array = array[top:bottom, left:right]
    height, width = target.size_of(*array.shape[:2])
    if (height, width) != array.shape[:2]:
        array = _resize(array, (width, height))
    return target.cut(array)


def _in_mode(image: Image.Image, channels: int, of_bands: bool) -> Image.Image:
    """Convert to gray (1), RGB (3) or RGBA (4); without alpha, transparent parts become white."""
    if channels not in (1, 3, 4):
        raise ValueError(f"it cannot be read with {channels} channels (mode {image.mode})")
    transparent = image.mode in _TRANSPARENT or "transparency" in image.info
    if channels == 4:
        if (of_bands or image.format in _OF_BANDS) and not transparent:
            raise ValueError(f"it has {kind_of(image.mode)[0]} channels, but 4 are wanted")
        return image.convert("RGBA")
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _with_alpha(array: np.ndarray, alpha: str) -> np.ndarray:
    """Convert to red, green, blue and alpha."""
    if alpha == "none":
        if array.shape[2] > 3:
            return array
        array = np.dstack([array, np.full_like(array[..., :1], _most(array))])
    return array[..., [0, 0, 0, 1]] if array.shape[2] == 2 else array


def _on_white(array: np.ndarray, alpha: str) -> np.ndarray:
    """Remove alpha; transparent parts become white."""
    if alpha == "none":
        return array
    most = _most(array)
    opacity = array[..., -1:] / np.float32(most)
    shares = opacity if alpha == "straight" else np.float32(1)
    colors = array[..., :-1] * shares + np.float32(most) * (1 - opacity)
    return colors.round().clip(0, most).astype(array.dtype)


def _most(array: np.ndarray) -> float:
    return 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)


def _of_type(array: np.ndarray, dtype: str) -> np.ndarray:
    """Convert values to ``dtype``; between 8 and 16 bits, brightness is preserved."""
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    found = type_of(array.dtype.newbyteorder("="))
    if found == dtype:
        return array.astype(dtype, copy=False)
    if (found, dtype) == ("uint8", "uint16"):
        return array * np.uint16(257)
    if (found, dtype) == ("uint16", "uint8"):
        return (array // 257).astype(np.uint8)
    raise ValueError(f"it has values of type {array.dtype}, but the other images have {dtype}")


def _with_channels(array: np.ndarray, channels: int) -> np.ndarray:
    found = array.shape[2]
    if found == channels:
        return array
    if found == 1 and channels == 3:
        return np.broadcast_to(array, (*array.shape[:2], 3))
    if found == 3 and channels == 1:
        gray = array.astype(np.float32) @ _LUMA
        return (gray if array.dtype.kind == "f" else gray.round()).astype(array.dtype)[..., None]
    raise ValueError(f"it has {found} channels, but {channels} are wanted")


def _resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize each channel separately to this width and height."""
    planes = [
        Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(
            size, Image.Resampling.BILINEAR
        )
        for plane in np.moveaxis(array, 2, 0)
    ]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=2)
    return resized if array.dtype.kind == "f" else resized.round().astype(array.dtype)


def turned(array: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn an array (h, w, c) upright according to its EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
