"""RankMe, the effective rank of features."""

import torch
from torch import Tensor

__all__ = ["rank_me"]


@torch.no_grad()
def rank_me(features: Tensor, eps: float = 1e-7) -> float:
    """Effective rank of a feature matrix (n, d): the exponential of its singular values' entropy.

    Between 1 (one direction) and min(n, d); higher goes with better linear probes.

    References
    ----------
    Garrido et al. (2023), RankMe: Assessing the Downstream Performance of Pretrained
    Self-Supervised Representations by Their Rank, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl.metrics._rank_me import rank_me
    >>> round(rank_me(torch.eye(4)), 3)
    4.0
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=1e-300) + eps
    return float(torch.exp(-(p * p.log()).sum()))
