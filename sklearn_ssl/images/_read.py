"""Reading of images from whatever X is, in one place."""

import contextlib
import math
import os
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data
from torch import Tensor

from sklearn_ssl.images._arrays import as_array, as_numbers, check_finite, is_stored, stacked
from sklearn_ssl.images._files import Files, Reading
from sklearn_ssl.images._images import Images, Shape, Stored, channels_last
from sklearn_ssl.images._items import as_items
from sklearn_ssl.images._shapes import (
    compare_shapes,
    complete_shape,
    guess_shape,
    has_planes,
    hint_of_one_image,
    warn_of_channel_order,
    warn_of_planes,
)

__all__ = ["read_images"]


def read_images(
    X: Any,
    *,
    estimator: Any,
    image_shape: tuple[int, ...] | None = None,
    channel_order: str = "auto",
    fitted_shape: Shape | None = None,
    fitted_dtype: np.dtype | None = None,
    min_images: int = 2,
    reading: Reading | None = None,
    name: str = "X",
) -> Images:
    """Check X and make it batches of images.

    What is in memory is checked here. Other arrays, and those that would have to be copied, are
    looked at batch by batch when they are read, and files are decoded then.

    Parameters
    ----------
    X : array-like
        As for :meth:`~sklearn_ssl.base.PretextLearner.fit`.
    estimator : BaseEstimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set, or compared with if
        ``fitted_shape`` is given.
    image_shape : tuple of int, optional
        (h, w) or (h, w, c); what rows of a 2-D X are, and files are resized to.
    channel_order : {"auto", "first", "last"}, default="auto"
    fitted_shape : tuple of int, optional
        (h, w, c) of the images that the estimator was fitted to.
    fitted_dtype : dtype, optional
        Type of their values.
    min_images : int, default=2
    reading : Reading, optional
        How files are read.
    name : str, default="X"
        What X is called in messages about one of its rows.

    Raises
    ------
    ValueError, TypeError
        For sparse, complex, non-finite, non-numeric, empty, ragged and wrongly shaped input.
    ImageReadError
        If files cannot be read.
    """
    sides = fitted_shape or image_shape
    items = as_items(X, None if sides is None else tuple(sides), channel_order)
    if items is not None:
        options = {"channel_order": channel_order, "name": name}
        files = _as_files(
            items, image_shape, fitted_shape, fitted_dtype, reading or Reading(), options
        )
        like = np.broadcast_to(np.uint8(0), (len(files), math.prod(files.shape)))
        reset = fitted_shape is None
        validate_data(estimator, like, reset=reset, ensure_min_samples=min_images)
        return Images(files, shape=files.shape)
    X = stacked(X)
    of_torch = isinstance(X, Tensor)
    planes = has_planes(X, channel_order)
    X = as_array(X)
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions; images are given as (n, pixels), (n, height, width) or "
            "(n, height, width, channels)"
        )
    shape: Shape | None = None
    wanted = fitted_shape
    if ndim in (3, 4):
        first, second, third = X.shape[1:] if ndim == 4 else (*X.shape[1:], 1)
        shape = (second, third, first) if planes and ndim == 4 else (first, second, third)
        if wanted is None and image_shape is not None:
            wanted = complete_shape(image_shape, shape)
        compare_shapes(shape, wanted, tuple(X.shape), fitted_shape is not None)
        if ndim == 4 and wanted is None and channel_order == "auto":
            warn_of_channel_order(shape, of_torch)
    elif fitted_shape is not None:
        _check_width(X, fitted_shape, estimator)
    if ndim == 1 and len(X):
        raise ValueError(
            f"Expected 2D array, got 1D array instead: X has shape {tuple(X.shape)}, as labels or "
            "one image have. Reshape your data to (n, pixels), (n, height, width) or (n, height, "
            "width, channels)"
        )
    reset = fitted_shape is None
    X = _check_values(X, estimator, reset=reset, ensure_min_samples=min_images)
    if shape is None:
        n_values = math.prod(X.shape[1:])
        shape = wanted or (
            guess_shape(n_values)
            if image_shape is None
            else complete_shape(image_shape, (n_values,))
        )
        if math.prod(shape) != n_values:
            raise ValueError(
                f"image_shape={shape} (height, width, channels) is {math.prod(shape)} values an "
                f"image, but X has {n_values}"
            )
        if channel_order == "auto":
            warn_of_planes(X, shape)
    array = Stored(X, shape, planes) if is_stored(X) else channels_last(X, shape, planes)
    return Images(array, shape=shape)


def _as_files(
    items: Any,
    image_shape: tuple[int, ...] | None,
    fitted_shape: Shape | None,
    fitted_dtype: np.dtype | None,
    reading: Reading,
    options: dict[str, str],
) -> Files:
    if len(items) == 0:
        raise ValueError("X has no images: Found 0 of them, while a minimum of 1 is required")
    if fitted_shape is not None:
        deep = fitted_dtype is not None and fitted_dtype in (np.uint8, np.uint16, np.float32)
        return Files(items, reading, fitted_shape, str(fitted_dtype) if deep else None, **options)
    if image_shape is not None:
        image_shape = complete_shape(image_shape)[: len(image_shape)]
    return Files(items, reading, image_shape, **options)


def _check_values(X: Any, estimator: Any, **options: Any) -> Any:
    """Check X as scikit-learn does, and return it in rows of numbers.

    Where that would be a copy, X is returned as it is.
    """
    in_memory = isinstance(X, np.ndarray)
    if in_memory and X.ndim > 2 and (X.flags.c_contiguous or X.dtype.kind not in "biuf"):
        X = X.reshape(len(X), math.prod(X.shape[1:]))
    if is_stored(X) or (in_memory and X.ndim > 2):  # the values are checked when they are read
        like = np.broadcast_to(np.zeros((), X.dtype), (X.shape[0], math.prod(X.shape[1:])))
        as_numbers(validate_data(estimator, like, ensure_all_finite=False, **options))
        return X
    try:
        if in_memory and X.ndim == 2 and X.dtype.kind == "O":
            X = as_numbers(X)
        # scikit-learn would advise estimators that take NaN
        rows = validate_data(estimator, X, dtype="numeric", ensure_all_finite=False, **options)
        rows = as_numbers(rows, getattr(estimator, "feature_names_in_", None))
    except (TypeError, ValueError):
        _refuse_text_beside_others(X)
        raise
    check_finite(rows)
    return rows


def _refuse_text_beside_others(X: Any) -> None:
    """Raise ValueError if one column of a table holds text, such as paths, and say what to give."""
    is_table = isinstance(X, np.ndarray) or hasattr(X, "columns")
    first = np.asarray(X[:1], dtype=object) if is_table and np.ndim(X) else np.empty(0)
    if first.ndim != 2 or len(first) == 0 or first.shape[1] == 1:
        return
    names = getattr(X, "column_names", getattr(X, "columns", None))  # of Arrow, and of others
    kinds = {i: type(value).__name__ for i, value in enumerate(first[0]) if _is_text(value)}
    if not kinds or (names is None and len(kinds) == first.shape[1]):
        return
    column, kind = next(iter(kinds.items()))
    which, give = f"column {column}", f"X[:, {column}]"
    if names is not None:
        which = f"column {names[column]!r}"
        give = (
            f"X[{names[column]!r}], or use a ColumnTransformer that gives the learner this column"
        )
    raise ValueError(
        f"X has {first.shape[1]} columns, and {which} holds {kind}, not numbers. If these are the "
        f"images, give {give}"
    )


def _is_text(value: Any) -> bool:
    """Return whether a value is text, a path or a file, and no number in letters."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            float(value)
            return False
    return isinstance(value, (str, bytes, os.PathLike))


def _check_width(X: Any, fitted_shape: Shape, estimator: Any) -> None:
    """Raise ValueError for rows unlike those of the fit, with more advice than scikit-learn's."""
    shape: tuple[int, ...] = tuple(getattr(X, "shape", ()))
    n_values = math.prod(fitted_shape)
    hint = hint_of_one_image(shape, fitted_shape)
    if len(shape) == 1 and hint:
        raise ValueError(f"Expected 2D array, got 1D array instead. Reshape your data{hint}")
    if len(shape) != 2 or hasattr(X, "columns") or shape[1] in (0, n_values):
        return
    _refuse_text_beside_others(X)
    raise ValueError(
        f"X has {shape[1]} features, but {type(estimator).__name__} is expecting {n_values} "
        f"features as input: images of {fitted_shape} (height, width, channels) in rows"
        f"{hint or '; resize other images to this shape, or fit anew with image_shape'}"
    )
