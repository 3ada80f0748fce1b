"""Label-free measures as scorers, for ``scoring=`` of scikit-learn's searches."""

import math
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_ssl.metrics._alignment import alignment, uniformity
from sklearn_ssl.metrics._lidar import lidar
from sklearn_ssl.metrics._spectrum import alpha_req

_VIEWS = 4  # per image
_IMAGES = 1000  # number of images whose views are used
_VIEWS_A_DIMENSION = 1.5  # minimum, for a good estimate of the variance within images


def _learner(estimator: Any, method: str) -> Any:
    """Return the learner, or the first step of a pipeline; raise TypeError without the method."""
    found = estimator[0] if isinstance(estimator, Pipeline) else estimator
    if isinstance(found, type) or not (hasattr(found, method) and hasattr(found, "get_params")):
        raise TypeError(
            f"estimator={found!r} has no {method}; give a learner, or a pipeline that begins with "
            "one"
        )
    return found


def _first(X: Any) -> Any:
    """Return the images whose views are used."""
    try:
        return X[:_IMAGES]
    except (IndexError, TypeError) as error:
        raise TypeError(f"X={X!r} is not an array or list of images") from error


def _read(features: Any) -> np.ndarray:
    """Drop the rows of images that could not be read, which are all NaN."""
    values = np.asarray(features)
    return values[~np.isnan(values).reshape(len(values), -1).all(1)]


def rank_me_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return the effective rank of the features (:func:`rank_me`)."""
    return _learner(estimator, "score").score(X)


def alpha_req_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return minus the distance of :func:`alpha_req` from 1."""
    return -abs(alpha_req(_read(_learner(estimator, "transform").transform(X))) - 1)


def lidar_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return :func:`lidar` of views of the first 1,000 images, drawn by the learner's recipe.

    Each image has four views, or as many as the dimension of the features needs.
    """
    learner, images = _learner(estimator, "transform_views"), _first(X)
    width = len(learner.get_feature_names_out())
    n_views = max(_VIEWS, 1 + math.ceil(_VIEWS_A_DIMENSION * width / max(1, len(images))))
    return lidar(_read(learner.transform_views(images, n_views, random_state=0)))


def alignment_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return minus :func:`alignment` of views of the first 1,000 images."""
    learner = _learner(estimator, "transform_views")
    return -alignment(_read(learner.transform_views(_first(X), _VIEWS, random_state=0)))


def uniformity_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return minus :func:`uniformity` of the features."""
    return -uniformity(_read(_learner(estimator, "transform").transform(X)))


def pretext_loss_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Return minus the pretext loss of held-out images."""
    return -_learner(estimator, "pretext_loss").pretext_loss(X, random_state=0)
