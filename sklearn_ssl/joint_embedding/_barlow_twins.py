"""Barlow Twins: embedding dimensions agree across views and are decorrelated."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp, off_diagonal, pairs_of_views
from sklearn_ssl.views import BYOL_VIEWS, Views


def barlow_twins_loss(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """Compute how far the cross-correlation of two embeddings (n, d) is from the identity."""
    first, second = gather(first), gather(second)
    with full_precision(first.device):
        a, b = (F.batch_norm(z.float(), None, None, training=True) for z in (first, second))
        correlation = a.T @ b / len(a)  # (d, d)
    invariance = (correlation.diagonal() - 1).square().sum()
    return invariance + redundancy * off_diagonal(correlation).square().sum()


class BarlowTwinsTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, redundancy):
        super().__init__(encoder, views)
        self.redundancy = redundancy
        widths = (encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)
        self.projector = mlp(*widths, last_bias=False)

    def forward(self, images, index):
        z = self.projector(self.embed_crops(images))
        pairs = pairs_of_views(z, len(images))
        losses = [barlow_twins_loss(*pair, self.redundancy) for pair in pairs]
        return TaskOutput(torch.stack(losses).mean())


class BarlowTwins(MultiCropArguments, PretextLearner):
    """Redundancy reduction between two views [1]_.

    The cross-correlation matrix of the embeddings of two views, over a batch, is drawn to the
    identity: each dimension agrees across views, and different dimensions are decorrelated.

    Parameters
    ----------
    redundancy : float, default=0.005
        Weight of the off-diagonal terms, the paper's lambda.
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=512
        Dimension of the embeddings; larger is better.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Zbontar, Jing, Misra, LeCun and Deny (2021), Barlow Twins: Self-Supervised Learning via
       Redundancy Reduction, https://arxiv.org/abs/2103.03230

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import BarlowTwins
    >>> X = load_digits().images[:256]
    >>> ssl = BarlowTwins(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    redundancy: float = argument(NOT_NEGATIVE, default=0.005)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=512)

    _task_class: ClassVar = BarlowTwinsTask

    def _default_views(self):
        return Views(**BYOL_VIEWS)
