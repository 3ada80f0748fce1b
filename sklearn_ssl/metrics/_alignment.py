"""Alignment of views and uniformity of images on the unit sphere."""

from typing import Any

import torch
import torch.nn.functional as F

from sklearn_ssl._utils._estimators import POSITIVE, check_arguments
from sklearn_ssl.metrics._features import as_features

_PAIRS_AT_ONCE = 2**24


@torch.no_grad()
def alignment(features: Any, alpha: float = 2.0) -> float:
    """Compute the mean distance, to the power ``alpha``, between unit features of two views.

    Parameters
    ----------
    features : array-like of shape (n, n_views, d)
        Features of several views of each image; all pairs of views count.
    alpha : float, default=2.0

    Returns
    -------
    float
        0 if all views have the same features; smaller is better at the same uniformity.

    References
    ----------
    Wang and Isola (2020), Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere, equation 1. https://arxiv.org/abs/2005.10242

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import alignment
    >>> alignment(np.ones((5, 2, 3)))
    0.0
    """
    check_arguments({"alpha": [POSITIVE]}, {"alpha": alpha}, "alignment")
    z = F.normalize(as_features(features, "(n, n_views, d)"), dim=2)
    if z.shape[1] < 2:
        raise ValueError(f"features of shape {tuple(z.shape)}: n_views must be at least 2")
    first, second = torch.triu_indices(z.shape[1], z.shape[1], 1)
    return float((z[:, first] - z[:, second]).norm(dim=2).pow(alpha).mean())


@torch.no_grad()
def uniformity(features: Any, t: float = 2.0) -> float:
    """Compute the logarithm of the mean Gaussian potential of pairs of unit features.

    Parameters
    ----------
    features : array-like of shape (n, d)
    t : float, default=2.0
        Inverse width of the potential.

    Returns
    -------
    float
        0 if all features are the same; smaller is better at the same alignment.

    References
    ----------
    Wang and Isola (2020), equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import uniformity
    >>> round(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 3)  # squared distance 4
    -8.0
    """
    check_arguments({"t": [POSITIVE]}, {"t": t}, "uniformity")
    z = F.normalize(as_features(features), dim=1)
    n = len(z)
    if n < 2:
        raise ValueError("features of one image form no pairs; give at least two images")
    total = torch.zeros((), dtype=z.dtype, device=z.device)
    for some in z.split(max(1, _PAIRS_AT_ONCE // n)):
        total += torch.exp(-t * (2 - 2 * (some @ z.T)).clamp(min=0)).sum()
    return float(((total - n) / (n * (n - 1))).clamp(min=1e-300).log())  # without self-pairs
