"""RankMe, the effective rank of features."""

from typing import Any

import torch

from sklearn_ssl._utils._estimators import NOT_NEGATIVE, check_arguments
from sklearn_ssl.metrics._features import as_features


@torch.no_grad()
def rank_me(features: Any, eps: float = 1e-7) -> float:
    """Compute the effective rank of features (n, d): exp of the entropy of their singular values.

    A higher rank goes with better linear probes.

    Parameters
    ----------
    features : array-like of shape (n, d)
    eps : float, default=1e-7
        Value added to the normalized singular values.

    Returns
    -------
    float
        Effective rank between 1 (one direction) and min(n, d).

    References
    ----------
    Garrido et al. (2023), RankMe: Assessing the Downstream Performance of Pretrained
    Self-Supervised Representations by Their Rank, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import rank_me
    >>> round(rank_me(np.eye(4)), 3)
    4.0
    """
    check_arguments({"eps": [NOT_NEGATIVE]}, {"eps": eps}, "rank_me")
    values = torch.linalg.svdvals(as_features(features))
    p = values / values.sum().clamp(min=1e-300) + eps
    return float(torch.exp(-(p * p.log()).sum()))
