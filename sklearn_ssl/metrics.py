"""Measures of a representation that need no labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["feature_spread", "rank_me"]


@torch.no_grad()
def feature_spread(features: Tensor) -> Tensor:
    """Standard deviation of L2-normalised features (n, d) over images, times sqrt(d).

    It is near 1 where directions fill the sphere and 0 for a collapsed representation.

    References
    ----------
    Chen & He (2021), Exploring Simple Siamese Representation Learning, section 4.1.
    """
    z = F.normalize(features.float(), dim=1)
    return z.std(0).mean() * z.shape[1] ** 0.5


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
    >>> from sklearn_ssl.metrics import rank_me
    >>> round(rank_me(torch.eye(4)), 3)
    4.0
    """
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=1e-300) + eps
    return float(torch.exp(-(p * p.log()).sum()))
