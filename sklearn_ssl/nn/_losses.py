"""Losses shared by several pretext tasks, computed in float32 even under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._torch import current_processes, full_precision


def gather(rows: Tensor, dim: int = 0) -> Tensor:
    """Gather the rows of the whole batch from all processes.

    Losses that compare images across the batch need it. In a single process it returns ``rows``.

    Parameters
    ----------
    rows : Tensor
        Rows of this process, along ``dim``.
    dim : int, default=0

    Returns
    -------
    Tensor
        Rows of all processes; the gradient of each row flows back to its process.
    """
    return current_processes().rows_of_all(rows, dim)


def own_rows(rows: Tensor, dim: int = 0) -> Tensor:
    """Return this process's rows of a result of :func:`gather`, or of a tensor computed from it."""
    return current_processes().own_part(rows, dim)


def first_own_row(n: int) -> int:
    """Return the index, in the whole batch, of the first of this process's ``n`` rows."""
    return current_processes().rank * n


def info_nce(
    queries: Tensor, keys: Tensor, temperature: float = 1.0, gathered: bool = True
) -> Tensor:
    """Compute InfoNCE: the i-th key is the positive of the i-th query, all others are negatives.

    Negatives are the keys of the whole batch, of all processes, unless ``gathered=False``.

    Parameters
    ----------
    queries, keys : Tensor of shape (..., n, d)
        Leading dimensions are independent problems.
    temperature : float, default=1.0
    gathered : bool, default=True

    Returns
    -------
    Tensor, a scalar
        Mean of -log softmax(queries @ keys.T / temperature) on the diagonal.

    References
    ----------
    Oord et al. (2018), Representation Learning with Contrastive Predictive Coding, equation 4.
    """
    start = first_own_row(queries.shape[-2]) if gathered else 0
    keys = gather(keys.float(), -2) if gathered else keys.float()
    with full_precision(queries.device):
        logits = queries.float() @ keys.mT / temperature
    return (logits.logsumexp(-1) - logits.diagonal(start, dim1=-2, dim2=-1)).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute normalized temperature-scaled cross-entropy of two views (n, d) of n images.

    For each of the 2n embeddings, the other view is the positive, and there are 2n - 2 negatives.

    References
    ----------
    Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations,
    equation 1.
    """
    n = len(first)
    z = F.normalize(torch.cat([first, second]).float(), dim=1).unflatten(0, (2, n))
    everything = gather(z, 1)  # (2, n of all processes, d)
    rows = own_rows(torch.arange(everything.shape[1], device=z.device))
    own = torch.cat([rows, rows + everything.shape[1]])  # positions of own rows among all
    with full_precision(z.device):
        logits = z.flatten(0, 1) @ everything.flatten(0, 1).T / temperature
        logits = logits.scatter(1, own[:, None], -torch.inf)
    # the positive of each view is the other view of its image, n own rows away
    return F.cross_entropy(logits, own.roll(n))


def classification(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy of logits (n, k) and labels (n,), and the accuracy."""
    logits = logits.float()
    return F.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()


def negative_cosine(predictions: Tensor, targets: Tensor, n: int) -> Tensor:
    """Compute the mean negative cosine of predictions and targets; targets get no gradient.

    Predictions (v * n, d) of all views of n images are compared with the targets (2 * n, d) of the
    large views, except those of the same view.
    """
    views, large = predictions.unflatten(0, (-1, n)), targets.unflatten(0, (2, n))
    pairs = [(views[v], large[i]) for v in range(len(views)) for i in (0, 1) if i != v]
    predicted, wanted = (torch.cat(part).float() for part in zip(*pairs, strict=True))
    return -F.cosine_similarity(predicted, wanted.detach(), dim=1).mean()


def pairs_of_views(z: Tensor, n: int) -> list[tuple[Tensor, Tensor]]:
    """Pair the embeddings (n, d) of the two large views, and of each large with each small view."""
    views = z.unflatten(0, (-1, n))
    return [(views[i], views[v]) for v in range(1, len(views)) for i in (0, 1) if i < v]


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return a square matrix (d, d) with its diagonal replaced by zeros."""
    return matrix - torch.diag(matrix.diagonal())


def variance_loss(z: Tensor) -> Tensor:
    """Compute the mean amount by which standard deviations of an embedding (n, d) are below 1.

    References
    ----------
    Bardes, Ponce and LeCun (2022), VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning, equations 1 and 2.
    """
    return F.relu(1 - (gather(z.float()).var(0) + 1e-4).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """Sum the squared covariances between dimensions of an embedding (n, d), and divide by d.

    References
    ----------
    Bardes, Ponce and LeCun (2022), equations 3 and 4.
    """
    with full_precision(z.device):
        z = gather(z.float())
        z = z - z.mean(0)
        covariance = z.T @ z / (len(z) - 1)  # (d, d)
    return off_diagonal(covariance).square().sum() / z.shape[1]


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Compute a discriminator's loss from logits (n,) of real inputs and of generated ones.

    With the arguments swapped, it is the non-saturating loss of its opponent.

    References
    ----------
    Goodfellow et al. (2014), Generative Adversarial Networks, section 3.
    """
    return generator_loss(real) + F.softplus(made.float()).mean()


def generator_loss(made: Tensor) -> Tensor:
    """Compute a generator's loss from a discriminator's logits (n,) of generated inputs."""
    return F.softplus(-made.float()).mean()
