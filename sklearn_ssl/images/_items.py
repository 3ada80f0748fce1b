"""Collections of images that are not arrays: what they are made of."""

import glob
import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from torch.utils.data import Dataset, IterableDataset

from sklearn_ssl.images._archives import list_members
from sklearn_ssl.images._decoding import named

__all__ = ["Picked", "as_items", "list_images"]

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_ITEMS = (str, os.PathLike, bytes, bytearray, Image.Image, dict)


def list_images(source: Any) -> np.ndarray:
    """Paths of all images in a folder, its subfolders, a pattern or tar archives.

    They are what scikit-learn can split, and every learner reads.

    Parameters
    ----------
    source : str or path
        A folder, a pattern (``"photos/**/*.jpg"``), or a tar archive, as WebDataset has them; a
        pattern may also name several archives.

    Returns
    -------
    ndarray of str, as objects
        Sorted; those in archives are named ``"shard.tar::member"``, in the order of the archive.

    Raises
    ------
    FileNotFoundError
        If there are none.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklearn_ssl.images import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "one.png"))
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "two.jpg"))
    ...     [Path(path).name for path in list_images(folder)]
    ['one.png', 'two.jpg']
    """
    source = os.path.expanduser(os.fspath(source))
    if os.path.isdir(source):
        found = [
            os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names
        ]
    elif os.path.exists(source):
        found = [source]
    else:
        found = glob.glob(source, recursive=True)
    paths: list[str] = []
    for path in sorted(found):
        suffix = os.path.splitext(path)[1].lower()
        if suffix == ".tar":
            paths.extend(list_members(path, SUFFIXES))
        elif suffix in SUFFIXES:
            paths.append(path)
    if not paths:
        raise FileNotFoundError(
            f"X={source!r} is read as a folder, a pattern or an archive of images, and there are "
            f"none: files that end in {', '.join(sorted(SUFFIXES))}"
        )
    return np.array(paths, dtype=object)


def as_items(X: Any) -> Any:
    """A sequence of paths, bytes, pictures or arrays; None if X is an array of pixels.

    Raises
    ------
    TypeError
        If some are something else, or if they come without a length.
    """
    if isinstance(X, (str, os.PathLike)):
        return list_images(X)
    if isinstance(X, (_First, Picked)):
        return X
    if isinstance(X, IterableDataset) or type(X).__name__ == "IterableDataset":
        raise TypeError(
            f"X is a {type(X).__name__}, whose images come in one order only; give a data set with "
            "a length and an index, or what it reads from (list_images reads tar archives)"
        )
    if isinstance(X, Dataset):
        return _of_dataset(X)
    if type(X).__module__.partition(".")[0] == "datasets":
        return _of_hugging_face(X)
    if isinstance(X, dict) and not issparse(X):  # as sparse arrays of keys are
        return _of_columns(X)
    column = None if isinstance(X, torch.Tensor) else _as_column(X)
    if column is None or len(column) == 0:
        return None
    if _has_label(column[0]):
        column = [item[0] for item in column]
    if isinstance(column[0], (torch.Tensor, np.ndarray)):
        return None
    if not isinstance(column[0], _ITEMS):
        return None
    for row, item in enumerate(column):
        if not isinstance(item, _ITEMS):
            raise TypeError(
                f"row {row} of X is {item!r}, but the first one is a {type(column[0]).__name__}; "
                "give paths, bytes or PIL images"
            )
    return column


def _as_column(X: Any) -> Any:
    """Lists, and columns of arrays, data frames and Arrow tables that hold no numbers."""
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
    return isinstance(item, (Image.Image, bytes, dict)) or getattr(item, "ndim", 0) >= 2


def _has_label(item: Any) -> bool:
    """Whether it is an image and its label, as data sets of torch give them."""
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
        if isinstance(item, dict):
            key = self.key or _image_column({k: [value] for k, value in item.items()})
            return item[key]
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
    if len(names) != 1:
        raise TypeError(
            f"X is a data set with {len(names)} columns of images ({', '.join(features)}); "
            "give one, X['image'] or X.select_columns('image')"
        )
    if X.format["type"] is None:  # its files as they are, which are decoded at the wanted size
        X = X.select_columns(names).cast_column(names[0], type(features[names[0]])(decode=False))
    return _First(X, names[0])


def _of_columns(X: dict[str, Any]) -> Any:
    return X[_image_column(X)]


def _image_column(columns: dict[str, Any]) -> str:
    found = [name for name, values in columns.items() if len(values) and _is_image(values[0])]
    if len(found) != 1:
        raise TypeError(
            f"X has the columns {', '.join(map(str, columns))}, of which {len(found)} hold images; "
            "give one of them"
        )
    return found[0]
