"""Losses that two or more pretext tasks use, computed in float32 also under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._device import full_precision

__all__ = [
    "classification",
    "covariance_loss",
    "generator_loss",
    "info_nce",
    "negative_cosine",
    "nt_xent",
    "off_diagonal",
    "pairs_of_views",
    "discriminator_loss",
    "variance_loss",
]


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute InfoNCE: the i-th key is the positive of the i-th query, all others are negatives.

    Parameters
    ----------
    queries, keys : Tensor of shape (..., n, d)
        Leading dimensions are problems of their own.
    temperature : float, default=1.0

    Returns
    -------
    Tensor, a scalar
        Mean of -log softmax(queries @ keys.T / temperature) on the diagonal.

    References
    ----------
    Oord et al. (2018), Representation Learning with Contrastive Predictive Coding, equation 4.
    """
    with full_precision(queries.device):
        logits = queries.float() @ keys.float().mT / temperature
    return (logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute normalized temperature-scaled cross entropy of two views (n, d) of n images.

    Each of the 2n embeddings has its other view as positive and 2n - 2 negatives.

    References
    ----------
    Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations,
    equation 1.
    """
    n = len(first)
    z = F.normalize(torch.cat([first, second]).float(), dim=1)  # (2n, d)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    with full_precision(z.device):
        logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, positive)


def classification(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the cross entropy of logits (n, k) and labels (n,), and the accuracy."""
    logits = logits.float()
    return F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()


def negative_cosine(predictions: Tensor, targets: Tensor, n: int) -> Tensor:
    """Compute the mean of -cos between predictions and their targets, which get no gradient.

    Predictions (v * n, d) of all views of n images are compared with the targets (2 * n, d) of the
    large views, except with their own.
    """
    views, large = predictions.unflatten(0, (-1, n)), targets.unflatten(0, (2, n))
    pairs = [(views[v], large[i]) for v in range(len(views)) for i in (0, 1) if i != v]
    predicted, wanted = (torch.cat(part).float() for part in zip(*pairs, strict=True))
    return -F.cosine_similarity(predicted, wanted.detach(), dim=1).mean()


def pairs_of_views(z: Tensor, n: int) -> list[tuple[Tensor, Tensor]]:
    """Pair the embeddings (n, d) of both large views, and of each with each small one."""
    views = z.unflatten(0, (-1, n))
    return [(views[i], views[v]) for v in range(1, len(views)) for i in (0, 1) if i < v]


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return a square matrix (d, d) with its diagonal replaced by zeros."""
    return matrix - torch.diag(matrix.diagonal())


def variance_loss(z: Tensor) -> Tensor:
    """Compute how far the standard deviations of an embedding (n, d) are below 1, on average.

    References
    ----------
    Bardes, Ponce and LeCun (2022), VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning, equations 1 and 2.
    """
    return F.relu(1 - (z.float().var(0) + 1e-4).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """Sum the squared covariances between the numbers of an embedding (n, d), per number.

    References
    ----------
    Bardes, Ponce and LeCun (2022), equations 3 and 4.
    """
    with full_precision(z.device):
        z = z.float() - z.float().mean(0)
        covariance = z.T @ z / (len(z) - 1)  # (d, d)
    return off_diagonal(covariance).square().sum() / z.shape[1]


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Compute a discriminator's loss: logits (n,) are to be high for real, low for made inputs.

    With the two exchanged it is the loss of the player who deceives the discriminator, in the form
    that does not saturate.

    References
    ----------
    Goodfellow et al. (2014), Generative Adversarial Networks, section 3.
    """
    return generator_loss(real) + F.softplus(made.float()).mean()


def generator_loss(made: Tensor) -> Tensor:
    """Compute the loss of making inputs that a discriminator, with logits (n,), takes for real."""
    return F.softplus(-made.float()).mean()
