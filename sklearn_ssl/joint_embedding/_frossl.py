"""FroSSL: views agree, while the Frobenius norm of their covariance is small."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp
from sklearn_ssl.views import BYOL_VIEWS, Views

_LEAST = 1e-12  # squared norm, so that its log is finite for equal embeddings


def log_frobenius(z: Tensor) -> Tensor:
    """Compute the log of the squared Frobenius norm of z.T z, divided by its trace.

    It is minus the matrix-based entropy of order 2: smallest, -log(d), if all d dimensions have the
    same variance and are uncorrelated. z is (v, n, d); the result, (v,).
    """
    rows = z if z.shape[1] <= z.shape[2] else z.mT  # z z.T and z.T z have the same norm
    with full_precision(z.device):
        gram = rows @ rows.mT
    norm, trace = gram.square().sum((1, 2)), z.square().sum((1, 2))
    return norm.clamp(min=_LEAST).log() - 2 * trace.clamp(min=_LEAST**0.5).log()


class FroSSLTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, invariance_weight):
        super().__init__(encoder, views)
        self.invariance_weight = invariance_weight
        widths = (encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)
        self.projector = mlp(*widths, last_bias=False)

    def forward(self, images, index):
        z = self.projector(self.embed_crops(images)).float().unflatten(0, (-1, len(images)))
        z = gather(z, 1)  # (v, n, d)
        z = F.normalize(z - z.mean(1, keepdim=True), dim=1)
        regularization = log_frobenius(z).mean()
        invariance = z.shape[0] * z.shape[2] * (z - z.mean(0)).square().mean()
        loss = regularization + self.invariance_weight * invariance
        return TaskOutput(loss, {"regularization": regularization, "invariance": invariance})


class FroSSL(MultiCropArguments, PretextLearner):
    """Frobenius norm minimization for self-supervised learning [1]_.

    Views are drawn to their mean, while the logarithm of the Frobenius norm of their covariance is
    made small, which spreads variance evenly over all dimensions. The logarithm makes the
    regularization insensitive to the number of dimensions, and gradients large while few dimensions
    are used; it takes the smaller of two matrix products, of images or of dimensions.

    The loss is that of the authors' code that normalizes dimensions, divided by the number of
    views.

    Parameters
    ----------
    invariance_weight : float, default=1.0
        Weight of the distance of views from their mean.
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=512
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Skean, Dhakal, Jacobs and Sanchez Giraldo (2024), FroSSL: Frobenius Norm Minimization for
       Efficient Multiview Self-Supervised Learning, https://arxiv.org/abs/2310.02903

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import FroSSL
    >>> X = load_digits().images[:256]
    >>> ssl = FroSSL(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    invariance_weight: float = argument(NOT_NEGATIVE, default=1.0)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=512)

    _task_class: ClassVar = FroSSLTask

    def _default_views(self):
        return Views(**BYOL_VIEWS)
