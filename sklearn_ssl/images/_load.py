"""Loading of images into one array, as learners read them."""

import os
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_ssl._utils._estimators import COUNT_OR_ZERO, StrOptions, plain, validate_params
from sklearn_ssl.images._read import read_images, warn_of_files


@validate_params(
    {
        "image_shape": [tuple, list, None],
        "pages": [COUNT_OR_ZERO, StrOptions({"channels"}), None],
        "resize": [StrOptions({"crop", "pad", "squash"})],
        "channel_order": [StrOptions({"auto", "first", "last"})],
        "on_error": [StrOptions({"raise", "skip"})],
        "decoded_cache": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
    }
)
def load_images(
    X: Any,
    image_shape: tuple[int, ...] | None = None,
    *,
    channel_order: str = "auto",
    pages: int | str | None = None,
    resize: str = "crop",
    on_error: str = "raise",
    decoded_cache: str | os.PathLike | None = None,
    n_jobs: int | None = -1,
) -> np.ndarray:
    """Load all images into one array, decoded and resized as learners do.

    Use it to feed the images that a learner reads to other transformers, such as
    :class:`~sklearn.decomposition.PCA` or a HOG function. Load all images in one call, then split
    the array: without ``image_shape``, size, channels and dtype are derived from the images.

    Parameters
    ----------
    X : array-like, or images in files
        Images in any form that :meth:`PretextLearner.fit <sklearn_ssl.base.PretextLearner.fit>`
        accepts.
    image_shape : tuple of int, optional
        Height and width, or height, width and channels, as for learners. Pass the
        ``image_shape_`` of a fitted learner to load images of its shape.
    channel_order : {"auto", "first", "last"}, default="auto"
        Order of the axes in ``X``, as for learners.
    pages : int, "channels" or None, default=None
        Pages or frames of a file that form its image, as for learners.
    resize : {"crop", "pad", "squash"}, default="crop"
        How files of other proportions are brought to ``image_shape``, as for learners.
    on_error : {"raise", "skip"}, default="raise"
        ``"skip"`` fills images that cannot be read with NaN and converts the array to float32.
    decoded_cache : str or path, optional
        Cache folder for decoded files, as for learners.
    n_jobs : int or None, default=-1
        Number of threads that decode files; ``-1`` uses one per core.

    Returns
    -------
    ndarray of shape (n, height, width, channels)
        Values keep their range and dtype in ``X``: uint8, uint16 or float32 from files. Arrays in
        memory are returned as views where possible.

    Raises
    ------
    ValueError, TypeError
        If the images are not usable; the message says what to give.
    ImageReadError
        If a file cannot be read; it is an OSError.

    Examples
    --------
    >>> from PIL import Image
    >>> from sklearn_ssl import load_images
    >>> photos = [Image.new("RGB", (40, 20)), Image.new("L", (30, 30))]
    >>> load_images(photos, (16, 16)).shape
    (2, 16, 16, 3)
    """
    images = read_images(
        X,
        estimator=BaseEstimator(),
        image_shape=image_shape,
        channel_order=channel_order,
        min_images=1,
        reading={
            "n_jobs": plain(n_jobs),
            "broken": "blank" if on_error == "skip" else "raise",
            "cache": plain(decoded_cache),
            "pages": plain(pages),
            "resize": resize,
        },
    )
    (array,) = images.arrays
    if not images.in_memory:
        array = array[np.arange(len(images))]
    array = array.reshape(-1, *images.shape)
    if images.skipped:
        array = array.astype(np.float32)
        array[list(images.skipped)] = np.nan
    warn_of_files(images, "are NaN in the result")
    return array
