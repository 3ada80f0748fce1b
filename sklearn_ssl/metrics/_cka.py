"""Centered kernel alignment: do two networks tell the same images apart?"""

import torch
from torch import Tensor

__all__ = ["linear_cka"]


@torch.no_grad()
def linear_cka(features: Tensor, others: Tensor) -> float:
    """Likeness of two features (n, d) and (n, e) of the same images, 0 to 1.

    Linear centered kernel alignment: 1 if they differ by a rotation, a scale and an offset only. It
    tells how far a training moved what pretrained weights had.

    Parameters
    ----------
    features : Tensor of shape (n, d)
    others : Tensor of shape (n, e)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If they are not of the same number of images.

    References
    ----------
    Kornblith et al. (2019), Similarity of Neural Network Representations Revisited, section 3.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl.metrics import linear_cka
    >>> features = torch.eye(4)[:, :3]
    >>> round(linear_cka(features, 2 * features.flip(1) + 1), 3)
    1.0
    """
    if len(features) != len(others):
        raise ValueError(f"features are of {len(features)} and of {len(others)} images")
    a, b = features.double(), others.double()
    a, b = a - a.mean(0), b - b.mean(0)
    lengths = (a.T @ a).norm() * (b.T @ b).norm()
    return float((a.T @ b).norm().square() / lengths.clamp(min=1e-300))
