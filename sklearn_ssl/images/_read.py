"""The one door through which images come in."""

import math
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from sklearn_ssl.images._images import Images, Shape
from sklearn_ssl.images._shapes import (
    _compare_shapes,
    _guess_shape,
    _warn_of_channel_order,
    complete_shape,
)

__all__ = ["read_images"]


def read_images(
    X: Any,
    *,
    estimator: Any,
    image_shape: tuple[int, ...] | None = None,
    fitted_shape: Shape | None = None,
    min_images: int = 2,
) -> Images:
    """Check X and make it batches of images.

    Parameters
    ----------
    X : array-like
        As for :meth:`~sklearn_ssl.base.PretextLearner.fit`.
    estimator : BaseEstimator
        Whose ``n_features_in_`` and ``feature_names_in_`` are set, or compared with if
        ``fitted_shape`` is given.
    image_shape : tuple of int, optional
        (h, w) or (h, w, c); what rows of a 2-D X are.
    fitted_shape : tuple of int, optional
        (h, w, c) of the images that the estimator was fitted to.
    min_images : int, default=2

    Raises
    ------
    ValueError, TypeError
        For sparse, complex, non-finite, non-numeric, empty, ragged and wrongly shaped input.
    """
    X = _stacked(X)
    of_torch = isinstance(X, Tensor)
    X = _to_array(X)
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions; images are given as (n, pixels), (n, height, width) or "
            "(n, height, width, channels)"
        )
    wanted = fitted_shape
    if wanted is None and image_shape is not None:
        wanted = complete_shape(image_shape, X)
    shape: Shape | None = None
    if ndim in (3, 4):
        height, width, *channels = X.shape[1:]
        shape = (height, width, *(channels or [1]))
        _compare_shapes(shape, wanted, fitted_shape is not None)
        if ndim == 4 and wanted is None:
            _warn_of_channel_order(shape, of_torch)
        X = X.reshape(len(X), math.prod(shape))
    flat = validate_data(
        estimator,
        X,
        reset=fitted_shape is None,
        dtype="numeric",
        ensure_min_samples=min_images,
    )
    largest = np.finfo(np.float32).max
    if (
        flat.dtype.kind == "f"
        and flat.dtype.itemsize > 4
        and not (-largest <= flat.min() and flat.max() <= largest)
    ):
        raise ValueError("X has values that are too large for float32; scale it down first")
    if shape is None:
        shape = wanted or _guess_shape(flat.shape[1])
        if math.prod(shape) != flat.shape[1]:
            raise ValueError(
                f"image_shape={shape} (height, width, channels) is {math.prod(shape)} values an "
                f"image, but X has {flat.shape[1]}"
            )
    return Images(flat, shape=shape)


def _to_array(X: Any) -> Any:
    """Tensors to arrays with the channels last; the rest as it is."""
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        if X.dtype == torch.bfloat16:
            X = X.float()
        return (X.permute(0, 2, 3, 1) if X.ndim == 4 else X).numpy()
    return X


def _stacked(X: Any) -> Any:
    """A list of images as one tensor or array."""
    if not isinstance(X, (list, tuple)):
        return X
    of_torch = any(isinstance(image, Tensor) for image in X)
    try:
        return torch.stack(list(X)) if of_torch else np.asarray(X)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            "X is a list of images of different shapes (ragged) or kinds; resize them to one shape"
        ) from error
