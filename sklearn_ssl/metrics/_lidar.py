"""LiDAR: how many dimensions tell images apart whatever their views."""

from typing import Any

import torch

__all__ = ["lidar"]


@torch.no_grad()
def lidar(features: Any, delta: float = 1e-4, eps: float = 1e-8) -> float:
    """Effective rank of the linear discriminant between images, each seen in several views.

    Parameters
    ----------
    features : array-like of shape (n, n_views, d)
        Features of several views of each image.
    delta : float, default=1e-4
        Added to the variance within an image.
    eps : float, default=1e-8
        Added to the shares of the eigenvalues.

    Returns
    -------
    float
        Between 1 and min(n - 1, d).

    Raises
    ------
    ValueError
        For another shape, or fewer than two images or views.

    References
    ----------
    Thilak et al. (2024), LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL
    Architectures, definition 1. https://arxiv.org/abs/2312.04000

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import lidar
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(200, 1, 3))  # three dimensions tell images apart
    >>> noise = rng.normal(size=(200, 5, 10)) * 0.1
    >>> noise[..., :3] += images
    >>> round(lidar(noise), 1)
    3.1
    """
    z = torch.as_tensor(features).double()
    if z.ndim != 3 or min(z.shape[:2]) < 2:
        raise ValueError(
            f"features of shape {tuple(z.shape)}: give (n, n_views, d), of two images and views at "
            "least"
        )
    n, n_views, d = z.shape
    of_images = z.mean(1)
    between = torch.cov(of_images.T, correction=1).reshape(d, d)
    apart = (z - of_images[:, None]).flatten(0, 1)
    within = apart.T @ apart / (n * (n_views - 1)) + delta * torch.eye(d, device=z.device).double()
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors * values.rsqrt() @ vectors.T
    found = torch.linalg.eigvalsh(whiten @ between @ whiten).clamp(min=0)
    p = found / found.sum().clamp(min=1e-300) + eps
    return float(torch.exp(-(p * p.log()).sum()))
