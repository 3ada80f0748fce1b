"""Reading of images for a fitted net, and checks against those that it was fitted to."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor

from sklearn_ssl.images import Extremes, Images, Reading, read_images, warn_of_files
from sklearn_ssl.inference._apply import apply

__all__ = ["apply_checked", "read_for"]


def read_for(
    net: Any,
    X: Any,
    *,
    reading: Reading,
    channel_order: str,
    estimator: BaseEstimator | None = None,
    min_images: int = 1,
) -> Images:
    """Read images of the shape, type and origin of those that a net was fitted to.

    Parameters
    ----------
    net : PretextNet or FrozenNet
    X : array-like, or images in files
    reading : Reading
    channel_order : {"auto", "first", "last"}
    estimator : BaseEstimator, optional
        Its number and names of features are compared with those of X.
    min_images : int, default=1
    """
    pixels = net.module_.pixels
    images = read_images(
        X,
        estimator=BaseEstimator() if estimator is None else estimator,
        channel_order=channel_order,
        fitted_shape=net.encoder.image_shape,
        fitted_dtype=pixels.dtype,
        min_images=min_images,
        reading=reading,
    )
    images.origin = pixels.origin
    return images


def apply_checked(
    net: Any,
    function: Callable[..., Tensor],
    images: Images,
    *arguments: np.ndarray,
    finish: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Call :func:`apply`, and warn of images in another range than those of the fit.

    Rows of files that cannot be read are NaN, or 0 in results of integers, with a warning.

    Raises
    ------
    ValueError
        If results are NaN or infinite.
    """
    pixels, seen, n_given, n_done = net.module_.pixels, Extremes(), 0, 0
    watch = not images.dtype == pixels.dtype == np.uint8  # whose range is that of the type

    def watched(values: Tensor, *more: Tensor) -> Tensor:
        nonlocal n_given
        skipped = images.skipped
        rows = range(n_given, min(n_given + len(values), len(images)))  # others fill the chunk
        n_given = rows.stop
        read = [row - rows.start for row in rows if row not in skipped]
        if watch and read:
            seen.add(values[: len(rows)] if len(read) == len(rows) else values[read])
        return function(values, *more)

    def finite(results: np.ndarray) -> np.ndarray:
        nonlocal n_done
        if not np.isfinite(results).all():
            found = ""
            if watch:
                seen.check_finite()
                found = f", which has {pixels.describe(seen, images.dtype)}"
            raise ValueError(f"the network gives NaN or infinite results for X{found}")
        rows = range(n_done, n_done + len(results))
        n_done = rows.stop
        if finish is not None:
            results = finish(results)
        if unread := [row - rows.start for row in images.skipped if row in rows]:
            results[unread] = np.nan if results.dtype.kind == "f" else 0
        return results

    results = apply(net, watched, images, *arguments, finish=finite)
    left = "have NaN in their rows" if results.dtype.kind == "f" else "are left blank"
    warn_of_files(images, left)
    if watch and seen.n:
        pixels.compare(seen, images.dtype)
    return results
