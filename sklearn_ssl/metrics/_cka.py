"""Centered kernel alignment, the similarity of two representations of the same images."""

from typing import Any

import torch
from torch import Tensor

from sklearn_ssl.metrics._features import as_features


@torch.no_grad()
def linear_cka(features: Any, others: Any) -> float:
    """Compute the similarity of two sets of features of the same images, from about 0 to 1.

    Linear centered kernel alignment [1]_ is 1 if the features differ only by a rotation, a scale
    and an offset, and 0 on average if they are independent. It is debiased [2]_: without the
    correction, the value for independent features grows with their dimensions, to 0.8 for 512
    images and 2,048 dimensions. By chance it can be slightly below 0.

    Parameters
    ----------
    features : array-like of shape (n, d)
    others : array-like of shape (n, e)

    Returns
    -------
    float
        Similarity; 0 if one set of features makes all pairs of images equally similar.

    Raises
    ------
    ValueError
        If the numbers of images differ, or are below four.

    References
    ----------
    .. [1] Kornblith et al. (2019), Similarity of Neural Network Representations Revisited,
       section 3. https://arxiv.org/abs/1905.00414
    .. [2] Nguyen, Raghu and Kornblith (2021), Do Wide and Deep Networks Learn the Same Things?,
       equation 3; the estimator is that of Song et al. (2012), Feature Selection via Dependence
       Maximization, equation 5. https://arxiv.org/abs/2010.15327

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import linear_cka
    >>> features = np.random.default_rng(0).normal(size=(20, 3))
    >>> round(linear_cka(features, 2 * features[:, ::-1] + 1), 3)
    1.0
    """
    a, b = as_features(features), as_features(others, name="others")
    if len(a) != len(b):
        raise ValueError(
            f"features and others have {len(a)} and {len(b)} rows; give features of the same images"
        )
    if len(a) < 4:
        raise ValueError(f"{len(a)} images are too few to compare features; give at least 4")
    a, b = _centered(a), _centered(b.to(a.device))
    lengths = []
    for z in (a, b):
        length = _dependence(z, z)
        if length <= 1e-10 * z.square().sum().square():  # equal for all pairs, up to rounding
            return 0.0
        lengths.append(length.sqrt())
    return float(_dependence(a, b) / (lengths[0] * lengths[1]))


def _centered(z: Tensor) -> Tensor:
    """Center features and scale their maximum to 1; return 0 if constant up to rounding."""
    z = z / z.abs().max().clamp(min=1e-300)
    z = z - z.mean(0)
    largest = z.abs().max()
    return z / largest if largest > 1e-12 else torch.zeros_like(z)


def _dependence(a: Tensor, b: Tensor) -> Tensor:
    """Estimate n (n - 3) times the HSIC of centered features (n, d) and (n, e), without bias."""
    n = len(a)
    if n < max(a.shape[1], b.shape[1]):
        inner = ((a @ a.T) * (b @ b.T)).sum()
    else:
        inner = (a.T @ b).square().sum()
    p, q = a.square().sum(1), b.square().sum(1)
    return inner - n / (n - 2) * (p @ q) + p.sum() * q.sum() / ((n - 1) * (n - 2))
