"""Measures of the spectrum of features: RankMe, their effective rank, and alpha-ReQ, its decay."""

from typing import Any

import torch

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, check_arguments
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


@torch.no_grad()
def alpha_req(features: Any, first: int = 1, last: int | None = None) -> float:
    """Fit the power-law exponent of the eigenvalues of the features' covariance.

    The i-th largest eigenvalue is modeled as proportional to i ** -alpha. Good representations have
    an alpha near 1: with a larger alpha they lie in few dimensions, with a smaller alpha many
    dimensions hold noise. A line is fitted to the logarithms, with weight 1 / i for rank i, so that
    all scales count equally.

    Parameters
    ----------
    features : array-like of shape (n, d)
    first, last : int
        Range of ranks in the fit; by default, those of all eigenvalues that are not zero up to
        rounding.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If fewer than three eigenvalues are left for the fit.

    References
    ----------
    Agrawal, Mondal, Ghosh and Richards (2022), alpha-ReQ: Assessing Representation Quality in
    Self-Supervised Learning by Measuring Eigenspectrum Decay, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import alpha_req
    >>> directions = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 20)))[0]
    >>> directions -= directions.mean(0)
    >>> directions = np.linalg.qr(directions)[0]
    >>> round(alpha_req(directions * np.arange(1, 21) ** -0.5), 3)  # variances fall as 1 / i
    1.0
    """
    check_arguments(
        {"first": [COUNT], "last": [COUNT, None]}, {"first": first, "last": last}, "alpha_req"
    )
    z = as_features(features)
    values = torch.linalg.svdvals(z - z.mean(0)).square()
    values = values[values > values.max() * 1e-10][first - 1 : last]
    if len(values) < 3:
        raise ValueError(
            f"{len(values)} nonzero eigenvalues are too few to fit a power law; give more images, "
            "or features that span more dimensions"
        )
    ranks = torch.arange(first, first + len(values), dtype=torch.float64, device=values.device)
    weights, x, y = 1 / ranks, ranks.log(), values.log()
    x = x - (weights * x).sum() / weights.sum()
    return float(-(weights * x * y).sum() / (weights * x * x).sum())
