"""Collections of images that are not arrays: the items that they consist of."""

import os
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils.validation import _num_samples
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_ssl.images._decoding import named
from sklearn_ssl.images._listing import list_images
from sklearn_ssl.images._shapes import complete_shape, has_planes, hint_of_one_image

__all__ = ["Picked", "as_items", "count_images", "row_in_full"]

_OF_FILES = {"bytes", "path"}  # keys of Hugging Face's images that are not decoded
_OF_ROWS = ("__getitem__", "__array__", "shape")  # what has any of these has rows
_ITEMS = (str, os.PathLike, bytes, bytearray, Image.Image, dict)


def count_images(X: Any) -> int:
    """Count the images in X, without reading them."""
    items = as_items(X)
    return _num_samples(X) if items is None else len(items)


def as_items(X: Any, sides: tuple[int, ...] | None = None, channel_order: str = "auto") -> Any:
    """Return a sequence of paths, bytes, pictures or arrays, or None if X is an array of pixels.

    Parameters
    ----------
    X : array-like
    sides : tuple of int, optional
        (h, w) or (h, w, c) that images are to have. Arrays in a list are items if they have
        several shapes, or other sides than these.
    channel_order : {"auto", "first", "last"}, default="auto"

    Raises
    ------
    TypeError
        If some are something else, or if they come without a length.
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
    if isinstance(X, dict) and not issparse(X):  # as sparse arrays of keys are
        return _of_columns(X)
    column = None if isinstance(X, torch.Tensor) else _as_column(X)
    if column is None or len(column) == 0:
        return None
    images = _without_labels(column)
    if isinstance(images[0], (torch.Tensor, np.ndarray)):
        apart = images is not column or _are_apart(X, images, sides, channel_order)
        return images if apart else None
    column = images
    if not isinstance(column[0], _ITEMS):
        return None
    for row, item in enumerate(column):
        if not isinstance(item, _ITEMS):
            scalar = item is None or isinstance(item, Number)
            given = repr(item) if scalar else f"of type {type(item).__name__}"
            raise TypeError(
                f"row {row} of X is {given}, but the first one is a {type(column[0]).__name__}; "
                "give paths, bytes or PIL images"
            )
    return column


def _without_labels(column: Any) -> Any:
    """Return the images of rows as data sets give them, (image, label) or dictionaries."""
    first = column[0]
    if _has_label(first):
        key: Any = 0
    elif isinstance(first, dict) and not first.keys() & _OF_FILES:
        key = _image_column(first, "row 0 of X")
    else:
        return column
    for row, item in enumerate(column):
        if not isinstance(item, type(first)) or (isinstance(item, dict) and key not in item):
            raise TypeError(
                f"row {row} of X is no {type(first).__name__} with an image, as row 0 is"
            )
    return [item[key] for item in column]


def _refuse_streams(X: Any) -> None:
    """Raise TypeError for images that come one after the other, and have no rows."""
    if isinstance(X, DataLoader):
        raise TypeError("X is a DataLoader; give the data set that it reads from, as X.dataset")
    if isinstance(X, IterableDataset) or type(X).__name__ == "IterableDataset":
        raise TypeError(
            f"X is a {type(X).__name__}, whose images come in one order only; give a data set with "
            "a length and an index, or what it reads from (list_images reads tar and zip archives)"
        )
    if isinstance(X, Iterable) and not any(hasattr(X, name) for name in _OF_ROWS):
        raise TypeError(
            f"X is of type {type(X).__name__}, whose images come in one order only; give list(X), "
            "or a torch Dataset that makes each image when it is asked for"
        )


def _are_apart(X: Any, column: Any, sides: tuple[int, ...] | None, channel_order: str) -> bool:
    """Return whether arrays are images each on its own, and not parts of one array."""
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
    """Return lists, and columns of arrays, data frames and Arrow tables, that hold no numbers."""
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
    """Return whether an item looks like an image, and not like a label."""
    return isinstance(item, (Image.Image, bytes, dict)) or getattr(item, "ndim", 0) >= 2


def _has_label(item: Any) -> bool:
    """Return whether an item is an image and its label, as data sets of torch give them."""
    return isinstance(item, tuple) and len(item) == 2 and _is_image(item[0]) > _is_image(item[1])


class Picked:
    """Some rows of a sequence, which are read when they are asked for."""

    def __init__(self, items: Any, rows: np.ndarray):
        self.items = items
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.items[int(self.rows[row])]


def row_in_full(items: Any, row: int) -> int:
    """Return the row in the sequence that images were picked from."""
    while isinstance(items, Picked):
        items, row = items.items, int(items.rows[row])
    return row


class _First:
    """The images of a data set, without what comes with them."""

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
        raise TypeError(f"X is a {type(X).__name__} without a length; give one with __len__")
    plain = getattr(X, "transform", 0) is None and hasattr(X, "samples")
    if plain and getattr(getattr(X, "loader", None), "__name__", "") == "default_loader":
        return [path for path, _ in X.samples]  # ImageFolder: files are read faster than it does
    return _First(X)


def _of_hugging_face(X: Any) -> Any:
    features = getattr(X, "features", None)
    if not isinstance(features, dict):  # one of its columns
        return _First(X)
    names = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if X.format["type"] == "custom":  # a transform, which gives what it likes
        return _First(X, names[0] if len(names) == 1 else None)
    if len(names) != 1:
        raise TypeError(
            f"X is a data set with {len(names)} columns of images ({', '.join(features)}); "
            "give one, X['image'] or X.select_columns('image')"
        )
    if X.format["type"] is None:  # its files as they are, which are decoded at the wanted size
        X = X.select_columns(names).cast_column(names[0], type(features[names[0]])(decode=False))
    return _First(X, names[0])


def _of_columns(X: dict[str, Any]) -> Any:
    rows = {name: values[0] for name, values in X.items() if len(values)}
    return X[_image_column(rows, "X")]


def _image_column(row: dict[str, Any], name: str) -> str:
    """Return the only key of a row that has an image."""
    found = [key for key, value in row.items() if _is_image(value)]
    if len(found) != 1:
        raise TypeError(
            f"{name} has the columns {', '.join(map(str, row))}, of which {len(found)} hold "
            "images; give one of them"
        )
    return found[0]
