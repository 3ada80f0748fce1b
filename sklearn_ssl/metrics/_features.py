"""Conversion of features to tensors for the measures, and the spread of features."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._messages import naming


def as_features(features: Any, shape: str = "(n, d)", name: str = "features") -> Tensor:
    """Convert features to a tensor in double precision, on their device if that supports it.

    Parameters
    ----------
    features : array-like or Tensor
    shape : str
        Expected shape, such as "(n, n_views, d)".
    name : str
        Name of the features in errors.

    Returns
    -------
    Tensor of float64

    Raises
    ------
    ValueError
        If the features have another number of axes, are empty or have non-finite values.
    """
    if not isinstance(features, Tensor):
        with naming(name):
            features = torch.from_numpy(np.require(features, np.float64, ["C", "W", "E"]))
    if features.device.type == "mps":  # has no double precision
        features = features.cpu()
    z = features.detach().double()
    if z.ndim != shape.count(",") + 1 or 0 in z.shape:
        raise ValueError(f"{name} of shape {tuple(z.shape)}: give shape {shape}")
    bad = ~z.isfinite().flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(z)} rows of {name} have NaN or infinite values, first in "
            f"row {int(bad.nonzero()[0])}; drop these images"
        )
    return z


@torch.no_grad()
def feature_spread(features: Any) -> float:
    """Compute the standard deviation of L2-normalized features (n, d) over images, times sqrt(d).

    It is near 1 if features fill the unit sphere and 0 for a collapsed representation.

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
