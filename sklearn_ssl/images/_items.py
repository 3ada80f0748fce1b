"""Collections of images that are not one array of pixels, as sequences of items."""

import os
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_ssl.images._decoding import named
from sklearn_ssl.images._listing import list_images
from sklearn_ssl.images._read import complete_shape, has_planes, hint_of_one_image, is_stored

_OF_FILES = {"bytes", "path"}  # keys of undecoded Hugging Face images
_OF_ROWS = ("__getitem__", "__array__", "shape")  # anything with one of these has rows
_ITEMS = (str, os.PathLike, bytes, bytearray, Image.Image, dict)


def count_images(X: Any) -> int:
    """Count the images in X without reading them."""
    return _num_samples(opened(X))


def as_items(X: Any, sides: tuple[int, ...] | None = None, channel_order: str = "auto") -> Any:
    """Return a sequence of paths, bytes, PIL images or arrays, or None for an array of pixels.

    Parameters
    ----------
    X : array-like
    sides : tuple of int, optional
        (h, w) or (h, w, c) that images should have. Arrays in a list are separate items if their
        shapes differ from each other or from this one.
    channel_order : {"auto", "first", "last"}, default="auto"

    Raises
    ------
    TypeError
        If an item has another type, or X has no length.
    """
    if isinstance(X, (str, os.PathLike)):
        return list_images(X)
    if isinstance(X, (_First, Picked)):
        return X
    _refuse_streams(X)
    if isinstance(X, Dataset):
        return _of_dataset(X)
    if type(X).__module__.partition(".")[0] == "datasets":
        return _of_hugging_face(X)
    if isinstance(X, dict) and not issparse(X):  # DOK sparse arrays are dicts
        first = {name: values[0] for name, values in X.items() if len(values)}
        return X[_image_column(first, "X")]
    column = None if isinstance(X, torch.Tensor) else _as_column(X)
    if column is None or len(column) == 0:
        return None
    images = _without_labels(column)
    if isinstance(images[0], (torch.Tensor, np.ndarray)):
        apart = images is not column or _are_apart(X, images, sides, channel_order)
        return images if apart else None
    if not isinstance(images[0], _ITEMS):
        return None
    for row, item in enumerate(images):
        if not isinstance(item, _ITEMS):
            scalar = item is None or isinstance(item, Number)
            given = repr(item) if scalar else f"of type {type(item).__name__}"
            raise TypeError(
                f"row {row} of X is {given}, but row 0 is of type {type(images[0]).__name__}; "
                "give only paths, bytes or PIL images"
            )
    return images


def _without_labels(column: Any) -> Any:
    """Return the images of dataset rows that are (image, label) tuples or dictionaries."""
    first = column[0]
    pairs = isinstance(first, tuple) and len(first) == 2  # as returned by torch datasets
    if pairs and _is_image(first[0]) > _is_image(first[1]):
        key: Any = 0
    elif isinstance(first, dict) and not first.keys() & _OF_FILES:
        key = _image_column(first, "row 0 of X")
    else:
        return column
    for row, item in enumerate(column):
        if not isinstance(item, type(first)) or (isinstance(item, dict) and key not in item):
            raise TypeError(
                f"row {row} of X must be a {type(first).__name__} with an image, like row 0"
            )
    return [item[key] for item in column]


def _refuse_streams(X: Any) -> None:
    """Raise TypeError for streams of images, which have no rows."""
    if isinstance(X, DataLoader):
        raise TypeError("X is a DataLoader; give its dataset, X.dataset")
    if isinstance(X, IterableDataset) or type(X).__name__ == "IterableDataset":
        raise TypeError(
            f"X is a {type(X).__name__}, which can only be read in order; give a dataset with a "
            "length and an index, or its source (list_images lists tar and zip archives)"
        )
    if isinstance(X, Iterable) and not any(hasattr(X, name) for name in _OF_ROWS):
        raise TypeError(
            f"X is of type {type(X).__name__}, which can only be read in order; give list(X), or a "
            "torch Dataset that loads each image on demand"
        )


def _are_apart(X: Any, column: Any, sides: tuple[int, ...] | None, channel_order: str) -> bool:
    """Return whether arrays are separate images rather than parts of one array."""
    if not all(isinstance(item, (torch.Tensor, np.ndarray)) for item in column):
        return False
    if not all(item.ndim in (2, 3) for item in column):
        return False
    shapes = {tuple(item.shape) for item in column}
    if len(shapes) > 1 or not isinstance(X, (list, tuple)):
        return True
    (shape,) = shapes
    first = has_planes(column[0], channel_order, ndim=3) and len(shape) == 3
    return bool(
        sides is not None
        and (shape[1:] if first else shape[:2]) != sides[:2]
        and not hint_of_one_image((len(column), *shape), complete_shape(sides))
    )


def _as_column(X: Any) -> Any:
    """Return X if it is a list, its only column if that is not numeric, or else None."""
    if isinstance(X, (list, tuple)):
        return X
    shape = getattr(X, "shape", None)
    if shape is None and hasattr(X, "to_pylist"):  # Arrow
        shape = (len(X),)
    if shape is None or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        return None
    if not hasattr(X, "__getitem__"):
        return None
    if getattr(getattr(X, "dtype", None), "kind", "O") not in "OUT":
        return None
    if hasattr(X, "to_pylist"):
        values = X.to_pylist()
        return [value for row in values for value in row.values()] if len(shape) == 2 else values
    column = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    return column.reshape(-1) if column.dtype.kind in "OUT" else None


def _is_image(item: Any) -> bool:
    """Return whether an item looks like an image rather than a label."""
    return isinstance(item, (Image.Image, bytes, dict)) or getattr(item, "ndim", 0) >= 2


class Picked:
    """Subset of a sequence's rows, read on access."""

    def __init__(self, items: Any, rows: np.ndarray):
        self.items = items
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.items[int(self.rows[row])]


def row_in_full(items: Any, row: int) -> int:
    """Return the row's index in the sequence from which images were picked."""
    while isinstance(items, Picked):
        items, row = items.items, int(items.rows[row])
    return row


class _First:
    """Images of a dataset, without labels or other columns."""

    def __init__(self, dataset: Any, key: Any = None):
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        name = f"row {row} of the {type(self.dataset).__name__}"
        item = named(name, self.dataset.__getitem__, int(row))
        if isinstance(item, dict) and not item.keys() & _OF_FILES:
            return item[self.key if self.key in item else _image_column(item, name)]
        return item[0] if isinstance(item, (tuple, list)) and item else item


def _of_dataset(X: Any) -> Any:
    if not hasattr(X, "__len__"):
        raise TypeError(f"X is a {type(X).__name__} without a length; give a dataset with __len__")
    plain = getattr(X, "transform", 0) is None and hasattr(X, "samples")
    if plain and getattr(getattr(X, "loader", None), "__name__", "") == "default_loader":
        return [path for path, _ in X.samples]  # ImageFolder: its files are read faster here
    return _First(X)


def _of_hugging_face(X: Any) -> Any:
    features = getattr(X, "features", None)
    if not isinstance(features, dict):  # a single column
        return _First(X)
    names = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if X.format["type"] == "custom":  # a transform may return anything
        return _First(X, names[0] if len(names) == 1 else None)
    if len(names) != 1:
        raise TypeError(
            f"X is a dataset with the columns {', '.join(features)}, of which {len(names)} hold "
            "images; give one, as X['image'] or X.select_columns('image')"
        )
    if X.format["type"] is None:  # undecoded files, to be decoded at the target size
        X = X.select_columns(names).cast_column(names[0], type(features[names[0]])(decode=False))
    return _First(X, names[0])


def _image_column(row: dict[str, Any], name: str) -> str:
    """Return the key of the only image in a row."""
    found = [key for key, value in row.items() if _is_image(value)]
    if len(found) != 1:
        raise TypeError(
            f"{name} has the columns {', '.join(map(str, row))}, of which {len(found)} hold "
            "images; give one column of images"
        )
    return found[0]


def opened(X: Any) -> Any:
    """Return X with a length: folders are listed, and datasets become sequences of their images.

    The result can be read in place of X; nothing is decoded yet.

    Parameters
    ----------
    X : array-like, or images in files
        As in :func:`read_images`.
    """
    items = as_items(X)
    return X if items is None else items


def pick(X: Any, rows: np.ndarray) -> Any:
    """Pick rows of X in any form; rows that are not in memory are read on access.

    Parameters
    ----------
    X : array-like, or images in files
        As in :func:`read_images`.
    rows : ndarray of int
        Rows in increasing order.
    """
    items = as_items(X)
    if items is not None:
        return Picked(items, rows)
    if is_stored(X) or isinstance(X, np.memmap):
        return PickedArray(X, rows)
    return X[torch.from_numpy(rows)] if isinstance(X, torch.Tensor) else _safe_indexing(X, rows)


class PickedArray:
    """Subset of the rows of an array that is not in memory."""

    def __init__(self, array: Any, rows: np.ndarray):
        self.array = array
        self.rows = rows
        self.shape = (len(rows), *array.shape[1:])
        self.dtype = array.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.array[self.rows[rows]]
