"""Arrays of whatever holds numbers, and errors that name what does not."""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from torch import Tensor

from sklearn_ssl.images._images import unmasked

__all__ = ["as_array", "as_numbers", "check_finite", "is_stored", "not_finite", "stacked"]

_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def stacked(X: Any) -> Any:
    """Stack a list of images to one tensor or array, and return other input as it is.

    Raises
    ------
    TypeError, ValueError
        For what holds no numbers.
    """
    if isinstance(X, Image.Image):
        raise TypeError("X is one PIL image; give several in a list, one as [X]")
    if isinstance(X, memoryview):
        return np.asarray(X)
    if isinstance(X, (list, tuple)):
        X = _stack(X)
    if isinstance(X, Tensor):
        _refuse_strange(X)
    else:
        _refuse_dates(X)
    return X


def _stack(images: Sequence[Any]) -> Any:
    images = [unmasked(image) for image in images]
    of_torch = any(isinstance(image, Tensor) for image in images)
    try:
        return torch.stack(images) if of_torch else np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            "X is a list of images of different shapes (ragged) or kinds; resize them to one shape"
        ) from error


def _refuse_strange(X: Tensor) -> None:
    if X.is_nested:
        raise ValueError(
            "X is a nested tensor, of images of different shapes; resize them to one shape and "
            "give torch.stack(images)"
        )
    if X.layout != torch.strided:
        raise TypeError(
            f"X is a tensor of layout {X.layout}, as sparse ones are; give X.to_dense()"
        )
    if X.is_meta:
        raise ValueError("X is a tensor on the meta device, which has a shape but no values")
    if X.is_complex():
        raise ValueError(f"Complex data not supported: X is a tensor of {X.dtype}; give X.abs()")


def _refuse_dates(X: Any) -> None:
    names = [
        str(name)
        for name, dtype in zip(getattr(X, "columns", ()), getattr(X, "dtypes", ()), strict=False)
        if getattr(dtype, "kind", None) in ("m", "M") or getattr(dtype, "is_temporal", bool)()
    ]
    if names:
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"X has dates or times in the columns {some}; pixels are numbers")


def as_array(X: Any) -> Any:
    """Convert tensors to arrays that share their memory, and masked arrays to plain ones."""
    if not isinstance(X, Tensor):
        return unmasked(X)
    if X.is_quantized:
        X = X.dequantize()
    X = X.detach().cpu().resolve_neg()
    if X.is_floating_point() and X.dtype not in _OF_NUMPY:
        X = X.float()
    return X.numpy()


def is_stored(X: Any) -> bool:
    """Return whether X is an array that gives slices, but not one of NumPy's."""
    if isinstance(X, np.ndarray) or issparse(X) or not hasattr(X, "__getitem__"):
        return False
    if len(getattr(X, "shape", ())) < 2:
        return False
    with contextlib.suppress(TypeError):
        return np.dtype(getattr(X, "dtype", None) or object) != object
    return False


def not_finite(row: int, is_nan: bool, name: str = "X") -> ValueError:
    """Return the error for images of which one has NaN, or values that are infinite in float32."""
    if is_nan:
        return ValueError(
            f"Input {name} contains NaN, first in row {row}; every pixel needs a value: fill it, "
            "as with np.nan_to_num, or leave the image out"
        )
    return ValueError(
        f"Input {name} contains infinity or values that are too large for float32, first in row "
        f"{row}; scale it down first"
    )


def check_finite(rows: np.ndarray) -> None:
    """Raise ValueError for rows of numbers of which one is NaN or infinite."""
    with np.errstate(all="ignore"):
        if rows.dtype.kind != "f" or np.isfinite(rows.sum()):  # which is quicker
            return
    strange = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(strange):
        raise not_finite(int(strange[0]), bool(np.isnan(rows).any()))


def as_numbers(array: np.ndarray, names: Any = None) -> np.ndarray:
    """Convert a 2-D array to numbers.

    Parameters
    ----------
    array : ndarray
    names : sequence of str, optional
        Names of the columns, for messages.

    Raises
    ------
    ValueError, TypeError
        If it has other values, as dates or nulls.
    """
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind != "O":
        raise ValueError(f"X has dtype {array.dtype}; pixels are numbers")
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"X has values that are no numbers: {error}") from error
    except OverflowError as error:
        raise ValueError(f"X has values that no float can hold: {error}") from error
    missing = np.flatnonzero(np.isnan(numbers).any(0))
    if len(missing):
        where = missing[:5].tolist() if names is None else names[missing[:5]].tolist()
        raise ValueError(
            f"Input X contains NaN or null in {len(missing)} columns, as {where}; every pixel "
            "needs a value"
        )
    return numbers
