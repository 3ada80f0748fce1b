"""Feature spread: the deviation of normalized features over images."""

from typing import Any

import torch
import torch.nn.functional as F

from sklearn_ssl.metrics._features import as_features

__all__ = ["feature_spread"]


@torch.no_grad()
def feature_spread(features: Any) -> float:
    """Compute the standard deviation of L2-normalized features (n, d) over images, times sqrt(d).

    It is near 1 where directions fill the sphere and 0 for a collapsed representation.

    Parameters
    ----------
    features : array-like of shape (n, d)

    Returns
    -------
    float

    References
    ----------
    Chen & He (2021), Exploring Simple Siamese Representation Learning, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssl.metrics import feature_spread
    >>> feature_spread(np.ones((5, 3)))
    0.0
    """
    z = F.normalize(as_features(features), dim=1)
    return float(z.std(0).mean() * z.shape[1] ** 0.5)
