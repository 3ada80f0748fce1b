"""Label-free measures as scorers, for ``scoring=`` of scikit-learn's searches."""

from typing import Any

from sklearn.pipeline import Pipeline

from sklearn_ssl.metrics._alignment import alignment, uniformity
from sklearn_ssl.metrics._alpha_req import alpha_req
from sklearn_ssl.metrics._lidar import lidar

__all__ = [
    "alignment_scorer",
    "alpha_req_scorer",
    "lidar_scorer",
    "pretext_loss_scorer",
    "rank_me_scorer",
    "uniformity_scorer",
]

_VIEWS = 4  # of each image
_IMAGES = 1000  # whose views are looked at


def _learner(estimator: Any) -> Any:
    """The learner itself, or the first step of a pipeline."""
    return estimator[0] if isinstance(estimator, Pipeline) else estimator


def rank_me_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Effective rank of the features (:func:`rank_me`)."""
    return _learner(estimator).score(X)


def alpha_req_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the distance of :func:`alpha_req` from 1."""
    return -abs(alpha_req(_learner(estimator).transform(X)) - 1)


def lidar_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """:func:`lidar` of views of the first 1,000 images, drawn as the method draws them."""
    return lidar(_learner(estimator).transform_views(X[:_IMAGES], _VIEWS, random_state=0))


def alignment_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus :func:`alignment` of views of the first 1,000 images."""
    return -alignment(_learner(estimator).transform_views(X[:_IMAGES], _VIEWS, random_state=0))


def uniformity_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus :func:`uniformity` of the features."""
    return -uniformity(_learner(estimator).transform(X))


def pretext_loss_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the pretext loss of images that were held out."""
    return -_learner(estimator).pretext_loss(X, random_state=0)
