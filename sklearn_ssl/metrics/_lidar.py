"""LiDAR, the number of dimensions that tell images apart regardless of the view."""

import math
from typing import Any

import torch

from sklearn_ssl._utils._estimators import NOT_NEGATIVE, POSITIVE, check_arguments
from sklearn_ssl.metrics._features import as_features


@torch.no_grad()
def lidar(features: Any, delta: float = 1e-4, eps: float = 1e-8) -> float:
    """Compute the effective rank of the linear discriminant between images, in several views [1]_.

    It is corrected for few views. The mean of q views retains 1 / q of the variance within an
    image, so each noise direction would count: with 1,000 images in 4 views, 20 dimensions that
    tell images apart, out of 512, were measured as 56 to 330. Here, a direction counts only if its
    variance between images exceeds the most that noise alone would give [2]_, and 1 / q is
    subtracted.

    Parameters
    ----------
    features : array-like of shape (n, n_views, d)
        Features of several views of each image.
    delta : float, default=1e-4
        Value added to the variance within an image, in units of the mean variance of features.
    eps : float, default=1e-8
        Value added to the normalized eigenvalues.

    Returns
    -------
    float
        Effective rank between 1 and min(n - 1, d); also 1 if nothing tells images apart.

    Raises
    ------
    ValueError
        If the shape is wrong, there are fewer than two images or views, or d is at least
        n (n_views - 1): the variance within images cannot be estimated then.

    References
    ----------
    .. [1] Thilak et al. (2024), LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL
       Architectures, definition 1. https://arxiv.org/abs/2312.04000
    .. [2] Wachter (1980), The Limiting Empirical Measure of Multiple Discriminant Ratios: the
       largest eigenvalue.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import lidar
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(200, 1, 3))  # three dimensions tell images apart
    >>> noise = rng.normal(size=(200, 5, 10)) * 0.1
    >>> noise[..., :3] += images
    >>> round(lidar(noise), 1)
    3.0
    """
    check_arguments(
        {"delta": [POSITIVE], "eps": [NOT_NEGATIVE]}, {"delta": delta, "eps": eps}, "lidar"
    )
    z = as_features(features, "(n, n_views, d)")
    n, n_views, d = z.shape
    if min(n, n_views) < 2:
        raise ValueError(
            f"features of shape {tuple(z.shape)}: give shape (n, n_views, d), with at least two "
            "images and two views"
        )
    free = n * (n_views - 1)
    if d >= free:
        raise ValueError(
            f"{n} images in {n_views} views are too few for {d} dimensions: n * (n_views - 1) must "
            'exceed them. Give more images or views, or fewer dimensions, as with pool="avg"'
        )
    of_images = z.mean(1)
    between = torch.cov(of_images.T, correction=1).reshape(d, d)
    apart = (z - of_images[:, None]).flatten(0, 1)
    within = apart.T @ apart / free
    unit = (within.trace() + between.trace()) / d
    within.diagonal().add_(delta * unit.clamp(min=1e-300))
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors * values.rsqrt() @ vectors.T
    try:
        found = torch.linalg.eigvalsh(whiten @ between @ whiten)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            f"delta={delta!r} does not suit the variance of the features, so LiDAR cannot be "
            "computed; use about 1e-4"
        ) from error
    by_noise = 1 / n_views
    found = torch.where(found > by_noise * _largest_ratio(d, n - 1, free), found - by_noise, 0)
    p = found / found.sum().clamp(min=1e-300) + eps
    return float(torch.exp(-(p * p.log()).sum()))


def _largest_ratio(d: int, above: int, below: int) -> float:
    """Return the largest eigenvalue of the ratio of two sample covariances of the same noise.

    The noise has ``d`` dimensions; the covariances have ``above`` and ``below`` degrees of freedom.
    """
    y, z = d / above, d / below
    return ((1 + math.sqrt(y + z - y * z)) / (1 - z)) ** 2
