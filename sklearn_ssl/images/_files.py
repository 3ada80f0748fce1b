"""Images that are decoded on access."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import current_process
from typing import Any, TypeVar

import numpy as np
from joblib.parallel import ThreadingBackend, get_active_backend

from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images._decoded_cache import DecodedCache
from sklearn_ssl.images._decoding import Header, decode, look
from sklearn_ssl.images._items import as_items, row_in_full
from sklearn_ssl.images._listing import is_member
from sklearn_ssl.images._read import Shape, complete_shape, warn_of_channel_order
from sklearn_ssl.images._targets import Pages, Target

_HEADERS_SEEN = 2000  # files, evenly spread, whose headers are read before any decoding
_NATIVE_UP_TO = 256  # pixels per side up to which images may keep their size
_USUAL_SIDE = 96

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reading:
    """Options for reading files.

    Parameters
    ----------
    n_jobs : int or None
        Number of decoding threads, as in joblib; one inside parallel joblib jobs and in daemon
        processes such as workers of ``multiprocessing.Pool``.
    broken : {"raise", "replace", "blank"}
        Treatment of an unreadable image: raise an error, use the next readable one, or use zeros.
    cache : str or path, optional
        Folder for decoded images.
    pages : int, "channels" or None
        Pages of each file to read.
    resize : {"crop", "pad", "squash"}
        How images of another aspect ratio get the wanted shape.
    """

    n_jobs: int | None = -1
    broken: str = "raise"
    cache: str | os.PathLike | None = None
    pages: Pages = None
    resize: str = "crop"

    def n_threads(self) -> int:
        backend, configured = get_active_backend()
        if backend.nesting_level or current_process().daemon:
            return 1
        n_jobs = configured if self.n_jobs is None else self.n_jobs
        return ThreadingBackend().effective_n_jobs(n_jobs)


class Files:
    """Images that are decoded in threads when their rows are accessed.

    Parameters
    ----------
    items : sequence
        Items as returned by :func:`as_items`.
    reading : Reading
    shape : tuple of int, optional
        (h, w) or (h, w, c) of the returned images. By default, images keep their size if it is
        the same for all and at most 256 pixels per side, and are resized to 96 x 96 otherwise.
    dtype : str, optional
        uint8, uint16 or float32; by default, one that holds all values.
    channel_order : {"auto", "first", "last"}, default="auto"
        Axis order of items that are arrays. ``"auto"`` warns if it looks wrong.
    name : str, default="X"
        Name of the items in messages.

    Attributes
    ----------
    skipped : dict of int to str
        Rows that could not be read, with the reason.
    stand_ins : dict of int to int
        Rows used in place of unreadable ones.
    changed : set of str
        Files that changed between two reads.
    not_cached : set of str
        Reasons why images could not be cached; after the first failure, caching stops.
    """

    def __init__(
        self,
        items: Sequence[Any],
        reading: Reading,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        *,
        channel_order: str = "auto",
        name: str = "X",
    ):
        self.items = items
        self.broken = reading.broken
        self.pages = reading.pages
        self.channel_order = channel_order
        self.name = name
        self.n_threads = reading.n_threads()
        self.cache = None if reading.cache is None else DecodedCache(reading.cache)
        self.skipped: dict[int, str] = {}
        self.stand_ins: dict[int, int] = {}
        self.changed: set[str] = set()
        self.not_cached: set[str] = set()
        self._stamps = np.zeros(len(items), np.int64)
        headers = [] if shape is not None and len(shape) == 3 and dtype else self._look_at_some()
        height, width = _common_size(headers) if shape is None else shape[:2]
        first = next((header for header in headers if header.of_array), None)
        if first and channel_order == "auto" and (shape is None or len(shape) == 2):
            of_first = (first.height, first.width, first.channels)
            warn_of_channel_order(of_first, first.of_torch, apart=True)
        channels = shape[2] if shape and len(shape) == 3 else max(h.channels for h in headers)
        types = {header.dtype for header in headers}
        dtype = dtype or next((kind for kind in ("float32", "uint16") if kind in types), "uint8")
        self.target = Target(
            height, width, channels, dtype, pages=self.pages, channel_order=channel_order,
            of_bands=any(header.channels == 4 for header in headers), resize=reading.resize,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> Shape:
        return (self.target.height, self.target.width, self.target.channels)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.target.dtype)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        batch = np.empty((len(rows), *self.shape), self.dtype)
        for at, image in enumerate(self._read(rows, self.target)):
            batch[at] = image
        return batch

    def whole(self, rows: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
        """Read whole images, each in the upper left corner of an array that fits the largest.

        Parameters
        ----------
        rows : ndarray of int
        zoom : float
            Size relative to :attr:`shape`; images with fewer pixels are not enlarged.

        Returns
        -------
        images : ndarray of shape (n, height, width, channels)
        sizes : ndarray of shape (n, 2), float32
            Height and width of each image.
        """
        height, width, _ = self.shape
        target = replace(
            self.target, height=round(zoom * height), width=round(zoom * width), whole=True
        )
        images = list(self._read(rows, target))
        sizes = np.array([image.shape[:2] for image in images])
        batch = np.zeros((len(rows), *sizes.max(0), self.shape[2]), self.dtype)
        for at, (image, (h, w)) in enumerate(zip(images, sizes, strict=True)):
            batch[at, :h, :w] = image
        return batch, sizes.astype(np.float32)

    def _name_of(self, row: int) -> str:
        return f"row {row_in_full(self.items, row)} of {self.name}"

    def _read(self, rows: np.ndarray, target: Target) -> Iterator[np.ndarray]:
        found = self._in_threads(partial(self._read_one, target=target), rows.tolist())
        for row, image in zip(rows.tolist(), found, strict=True):
            self.stand_ins.pop(row, None)
            yield self._instead(row, image, target) if isinstance(image, OSError) else image

    def _read_one(self, row: int, target: Target) -> np.ndarray:
        item = self.items[row]
        if not isinstance(item, (str, os.PathLike)):
            return decode(item, self._name_of(row), target)
        path = os.path.expanduser(os.fspath(item))
        if is_member(path):
            return decode(item, self._name_of(row), target)
        try:
            stat = os.stat(path)
        except OSError:
            return decode(item, path, target)  # raises an error that says what is wrong
        stamp = stat.st_mtime_ns ^ stat.st_size
        if self._stamps[row] not in (0, stamp):
            self.changed.add(path)
        self._stamps[row] = stamp
        if self.cache is None:
            return decode(item, path, target)
        place = self.cache.place_of(path, stat, target)
        image = self.cache.load(place, target)
        if image is None:
            image = decode(item, path, target)
            if not self.not_cached:
                try:
                    self.cache.keep(place, image)
                except OSError as error:
                    self.not_cached.add(error.strerror or str(error))
        return image

    def _instead(self, row: int, error: ImageReadError, target: Target) -> np.ndarray:
        """Return a blank or another image for an unreadable one, or raise the error."""
        if self.broken == "raise":
            raise error
        self.skipped[row] = str(error)
        if self.broken == "blank":
            size = target.size_of(target.height, target.width)
            return np.zeros((*size, target.channels), target.dtype)
        for step in range(1, len(self)):
            other = (row + step) % len(self)
            try:
                image = self._read_one(other, target)
            except ImageReadError as another:
                self.skipped[other] = str(another)
            else:
                self.stand_ins[row] = other
                return image
        raise ImageReadError(f"none of the {len(self)} images can be read; first error: {error}")

    def _look_at_some(self) -> list[Header]:
        n = min(len(self), _HEADERS_SEEN)
        rows = np.linspace(0, len(self) - 1, n).astype(int).tolist()

        def see(row: int) -> Header:
            return look(self.items[row], self._name_of(row), self.pages, self.channel_order)

        seen = list(self._in_threads(see, rows))
        errors = [error for error in seen if isinstance(error, ImageReadError)]
        headers = [header for header in seen if isinstance(header, Header)]
        if errors and (self.broken == "raise" or not headers):
            several = f" (and {len(errors) - 1} more of the {n} checked)" if errors[1:] else ""
            raise ImageReadError(f"{errors[0]}{several}")
        return headers

    def _in_threads(
        self, function: Callable[[int], Result], rows: Sequence[int]
    ) -> Iterator[Result | ImageReadError]:
        """Yield what a function returns for each row, or the error for an unreadable image."""

        def tried(row: int) -> Result | ImageReadError:
            try:
                return function(row)
            except ImageReadError as error:
                return error

        if self.n_threads == 1 or len(rows) == 1:
            yield from map(tried, rows)
            return
        with ThreadPoolExecutor(self.n_threads) as pool:
            yield from pool.map(tried, rows)


def _common_size(headers: Sequence[Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) > 1 or max(headers[0].height, headers[0].width) > _NATIVE_UP_TO:
        return (_USUAL_SIDE, _USUAL_SIDE)
    return sizes.pop()


def read_files(
    X: Any,
    image_shape: tuple[int, ...] | None,
    channel_order: str,
    fitted_shape: Shape | None,
    fitted_dtype: np.dtype | None,
    reading: dict[str, Any] | None,
    name: str,
) -> Files | None:
    """Return X as files or other items to decode, or None if it holds numbers.

    The parameters are those of :func:`read_images`.
    """
    sides = fitted_shape or image_shape
    items = as_items(X, None if sides is None else tuple(sides), channel_order)
    if items is None:
        return None
    if len(items) == 0:
        raise ValueError("X has no images: Found 0 of them, while a minimum of 1 is required")
    shape, dtype = image_shape, None
    if fitted_shape is not None:
        deep = fitted_dtype is not None and fitted_dtype in (np.uint8, np.uint16, np.float32)
        shape, dtype = fitted_shape, str(fitted_dtype) if deep else None
    elif image_shape is not None:
        shape = complete_shape(image_shape)[: len(image_shape)]
    options = Reading(**reading or {})
    return Files(items, options, shape, dtype, channel_order=channel_order, name=name)
