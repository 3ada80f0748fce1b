"""VICReg: embeddings agree across views, keep their variance and are decorrelated."""

from typing import ClassVar

import torch
import torch.nn.functional as F

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import covariance_loss, mlp, pairs_of_views, variance_loss
from sklearn_ssl.views import BYOL_VIEWS, Views


class VICRegTask(PretextTask):
    def __init__(
        self, encoder, views, *, hidden_dim, projection_dim, invariance, variance, covariance
    ):
        super().__init__(encoder, views)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        widths = (encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)
        self.expander = mlp(*widths, last_bias=False)

    def forward(self, images, index):
        z = self.expander(self.embed_crops(images))
        pairs = pairs_of_views(z, len(images))
        losses = {
            "invariance": [F.mse_loss(a.float(), b.float()) for a, b in pairs],
            "variance": [(variance_loss(a) + variance_loss(b)) / 2 for a, b in pairs],
            "covariance": [covariance_loss(a) + covariance_loss(b) for a, b in pairs],
        }
        terms = {name: torch.stack(values).mean() for name, values in losses.items()}
        loss = sum(weight * terms[name] for name, weight in self.weights.items())
        return TaskOutput(loss, terms)


class VICReg(MultiCropArguments, PretextLearner):
    """Variance-invariance-covariance regularization [1]_.

    Embeddings of two views are drawn together, while each dimension keeps a standard deviation of
    at least 1 over the batch and different dimensions are decorrelated.

    Parameters
    ----------
    invariance : float, default=25.0
        Weight of the squared distance between views, the paper's lambda.
    variance : float, default=25.0
        Weight of the standard deviations, the paper's mu.
    covariance : float, default=1.0
        Weight of the covariances, the paper's nu.
    hidden_dim : int, default=512
        Width of the expander's hidden layers.
    projection_dim : int, default=512
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Bardes, Ponce and LeCun (2022), VICReg: Variance-Invariance-Covariance Regularization for
       Self-Supervised Learning, https://arxiv.org/abs/2105.04906

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import VICReg
    >>> X = load_digits().images[:256]
    >>> ssl = VICReg(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    invariance: float = argument(NOT_NEGATIVE, default=25.0)
    variance: float = argument(NOT_NEGATIVE, default=25.0)
    covariance: float = argument(NOT_NEGATIVE, default=1.0)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=512)

    _task_class: ClassVar = VICRegTask

    def _default_views(self):
        return Views(**BYOL_VIEWS)
