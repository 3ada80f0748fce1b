"""DICOM files, read by pydicom as a viewer shows them."""

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from sklearn_ssl.images._targets import Pages, Planes
from sklearn_ssl.images._tiff import too_few

_PREAMBLE = 128  # bytes before the letters DICM
_INVERTED = "MONOCHROME1"  # the smallest value is white
_GRAY = (_INVERTED, "MONOCHROME2")


def is_dicom(file: Any) -> bool:
    """Return whether a file, rewound afterward, begins as DICOM files do."""
    file.seek(_PREAMBLE)
    found = file.read(4) == b"DICM"
    file.seek(0)
    return bool(found)


def open_dicom(file: Any, pages: Pages) -> Planes:
    """Open a DICOM file without decoding its pixels."""
    header = import_module("pydicom").dcmread(file, defer_size=1024)
    if "Rows" not in header:
        raise ValueError("it is a DICOM file without an image")
    n = int(header.get("NumberOfFrames", None) or 1)
    frame = pages if isinstance(pages, int) else 0
    if frame >= n:
        raise ValueError(too_few(n, frame))
    if n > 1 and not isinstance(pages, int):
        raise ValueError(f"it has {n} frames; pages=0 reads the first one")
    gray = header.PhotometricInterpretation in _GRAY
    dtype = np.dtype(np.uint16 if gray else np.uint8)
    shape = (int(header.Rows), int(header.Columns), 1 if gray else 3)
    return Planes(shape, dtype, partial(_read, header, frame, gray), "none")


def _read(header: Any, frame: int, gray: bool) -> np.ndarray:
    pixels = import_module("pydicom.pixels")
    array = pixels.pixel_array(header, index=frame)  # color as RGB
    if not gray:
        bits = int(header.BitsStored)
        if array.ndim == 2:
            array = pixels.apply_color_lut(array, header)
            bits = 8 * array.itemsize
        return array if bits == 8 else (array * (255 / (2**bits - 1))).round().astype(np.uint8)
    values = pixels.apply_modality_lut(array, header).astype(np.float32)
    shown = _shown(pixels, array, values, header)
    if header.PhotometricInterpretation == _INVERTED:
        shown = 1 - shown
    return np.round(shown * 65535).astype(np.uint16)[..., None]


def _shown(pixels: Any, stored: np.ndarray, values: np.ndarray, header: Any) -> np.ndarray:
    """Return gray values from 0 to 1: those in the first window of the file, or all possible ones.

    Parameters
    ----------
    pixels : module
    stored : ndarray
        Values in the file.
    values : ndarray
        Values in their unit, such as Hounsfield units: after slope and intercept.
    header : Dataset
    """
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    least = -(2 ** (bits - 1)) if signed else 0
    ends = np.array([least, least + 2**bits - 1], dtype=stored.dtype)
    low, high = sorted(pixels.apply_modality_lut(ends, header).astype(np.float64))
    for table in header.get("ModalityLUTSequence", ()):
        low, high = _range_of(table)
    tables = header.get("VOILUTSequence", ())
    if tables:
        values = values.round().astype(np.int32)  # positions in the table
        low, high = _range_of(tables[0])
    if tables or "WindowCenter" in header:
        values = pixels.apply_voi_lut(values, header, index=0).astype(np.float32)
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1)


def _range_of(table: Any) -> tuple[float, float]:
    """Return the least and largest value that a lookup table can hold."""
    return 0.0, 2.0 ** int(table.LUTDescriptor[2]) - 1
