"""Maps of a learner's features, and their enlargement to the pixels of images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklearn_ssl._utils._messages import inner_training, lost_if_interrupted
from sklearn_ssl.base import ImageTransformer
from sklearn_ssl.contrastive import SimCLR
from sklearn_ssl.images import count_images, pick

_IMAGES_AT_ONCE = 64


def fitted_learner(estimator: Any, X: Any) -> ImageTransformer:
    """Return the learner of an estimator, fitted to images unless it is frozen.

    Parameters
    ----------
    estimator : estimator with ``learner`` and ``random_state``
        ``learner=None`` means SimCLR with the default layers for maps.
    X : array-like
        Images.

    Raises
    ------
    TypeError
        If it has no feature maps.
    """
    given, frozen = estimator.learner, isinstance(estimator.learner, FrozenEstimator)
    if frozen:
        given = given.estimator
    if given is None:
        given = SimCLR(layer=["layer1", "layer2", "layer3"], random_state=estimator.random_state)
    if not isinstance(given, ImageTransformer):
        raise TypeError(
            f"learner={given!r} has no feature maps; give a learner, such as SimCLR(), or another "
            "transformer of this package, such as PretrainedEncoder(); in FrozenEstimator if it is "
            "fitted"
        )
    if frozen:
        return given
    learner = clone(given)
    with inner_training(), lost_if_interrupted(estimator, learner):
        return learner.fit(X)


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge maps (n, rows, columns, d) to height and width, bilinearly."""
    planes = torch.from_numpy(np.ascontiguousarray(maps)).permute(0, 3, 1, 2)
    return F.interpolate(planes, size, mode="bilinear").permute(0, 2, 3, 1).numpy()


def at_pixels(
    one: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return the features (m, d) of a map (rows, columns, d) at pixels of an image of a size.

    They are those of the map enlarged to the image, without enlarging all of it.
    """
    plane = torch.from_numpy(np.ascontiguousarray(one)).permute(2, 0, 1)[None]
    places = [
        2 * (at + 0.5) / side - 1 for at, side in zip((columns, rows), size[::-1], strict=True)
    ]
    grid = torch.from_numpy(np.stack(places, 1).astype(np.float32))[None, None]
    found = F.grid_sample(plane, grid, "bilinear", "border", align_corners=False)
    return found[0, :, 0].T.numpy()


def maps_of(learner: ImageTransformer, X: Any) -> Iterator[np.ndarray]:
    """Yield feature maps (n, rows, columns, d) of all images, some at a time."""
    n = count_images(X)
    for start in range(0, n, _IMAGES_AT_ONCE):
        yield learner.feature_maps(pick(X, np.arange(start, min(start + _IMAGES_AT_ONCE, n))))
