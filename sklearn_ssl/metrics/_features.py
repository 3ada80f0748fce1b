"""Features of any kind of array, as the measures read them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl._utils._messages import naming

__all__ = ["as_features"]


def as_features(features: Any, shape: str = "(n, d)", name: str = "features") -> Tensor:
    """Convert features to a tensor in double precision, on their device if that supports it.

    Parameters
    ----------
    features : array-like or Tensor
    shape : str
        What it has to be, as in "(n, n_views, d)".
    name : str
        Its name in errors.

    Returns
    -------
    Tensor of float64

    Raises
    ------
    ValueError
        If it has another number of dimensions, is empty, or has values that are not finite.
    """
    if not isinstance(features, Tensor):
        with naming(name):
            features = torch.from_numpy(np.require(features, np.float64, ["C", "W", "E"]))
    if features.device.type == "mps":  # which has no double precision
        features = features.cpu()
    z = features.detach().double()
    if z.ndim != shape.count(",") + 1 or 0 in z.shape:
        raise ValueError(f"{name} of shape {tuple(z.shape)}: give {shape}")
    bad = ~z.isfinite().flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(z)} rows of {name} have NaN or infinite values, the first "
            f"is row {int(bad.nonzero()[0])}; leave these images out"
        )
    return z
