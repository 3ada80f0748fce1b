"""Label-free measures of representations: functions of features, and scorers."""

from sklearn_ssl.metrics._alignment import alignment, uniformity
from sklearn_ssl.metrics._cka import linear_cka
from sklearn_ssl.metrics._features import feature_spread
from sklearn_ssl.metrics._lidar import lidar
from sklearn_ssl.metrics._scorers import (
    alignment_scorer,
    alpha_req_scorer,
    lidar_scorer,
    pretext_loss_scorer,
    rank_me_scorer,
    uniformity_scorer,
)
from sklearn_ssl.metrics._spectrum import alpha_req, rank_me

__all__ = [
    "alignment",
    "alignment_scorer",
    "alpha_req",
    "alpha_req_scorer",
    "feature_spread",
    "lidar",
    "lidar_scorer",
    "linear_cka",
    "pretext_loss_scorer",
    "rank_me",
    "rank_me_scorer",
    "uniformity",
    "uniformity_scorer",
]
