"""How far the features of images are apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["feature_spread"]


@torch.no_grad()
def feature_spread(features: Tensor) -> Tensor:
    """Standard deviation of L2-normalized features (n, d) over images, times sqrt(d).

    It is near 1 where directions fill the sphere and 0 for a collapsed representation.

    References
    ----------
    Chen & He (2021), Exploring Simple Siamese Representation Learning, section 4.1.
    """
    z = F.normalize(features.float(), dim=1)
    return z.std(0).mean() * z.shape[1] ** 0.5
