"""Losses that two or more pretext tasks use. All are computed in float32, also under autocast."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["full_precision", "info_nce", "nt_xent"]


def full_precision(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run ``loss`` in float32: logits divided by a temperature do not survive bfloat16."""

    @functools.wraps(loss)
    def wrapped(*args, **kwargs):
        args = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        if args[0].device.type == "meta":  # autocast knows no meta device
            return loss(*args, **kwargs)
        with torch.autocast(args[0].device.type, enabled=False):
            return loss(*args, **kwargs)

    return wrapped


@full_precision
def info_nce(queries: Tensor, keys: Tensor, temperature: float = 1.0) -> Tensor:
    """InfoNCE: the i-th key is the positive of the i-th query, all other keys are negatives.

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
    logits = queries @ keys.mT / temperature
    return (logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)).mean()


@full_precision
def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views (n, d) of the same n images.

    Each of the 2n embeddings has its other view as positive and 2n - 2 negatives.

    References
    ----------
    Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations,
    equation 1.
    """
    n = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)  # (2n, d)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, positive)
