"""VICReg: embeddings of two views agree, keep their variance, and are uncorrelated."""

import torch.nn.functional as F

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import covariance_loss, mlp, variance_loss
from sklearn_ssl.views import BYOL_VIEWS, Views

__all__ = ["VICReg"]


class VICRegTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, weights):
        super().__init__(encoder, views)
        self.weights = weights
        widths = (encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)
        self.expander = mlp(*widths, last_bias=False)

    def forward(self, images, index):
        z = self.expander(self.encoder.embed(self.pair(images)))
        first, second = z.chunk(2)
        terms = {
            "invariance": F.mse_loss(first.float(), second.float()),
            "variance": (variance_loss(first) + variance_loss(second)) / 2,
            "covariance": covariance_loss(first) + covariance_loss(second),
        }
        loss = sum(weight * terms[name] for name, weight in self.weights.items())
        return TaskOutput(loss, terms)


class VICReg(PretextLearner):
    """Variance-invariance-covariance regularization [1]_.

    Embeddings of two views are drawn together, while each number of an embedding keeps a standard
    deviation of at least 1 over the batch and no two numbers are correlated.

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
        Width of the embeddings.
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

    def _default_views(self):
        return Views(**BYOL_VIEWS)

    def _make_task(self, encoder, n_images):
        weights = {name: getattr(self, name) for name in ("invariance", "variance", "covariance")}
        views = self._make_views()
        return VICRegTask(
            encoder,
            views,
            hidden_dim=self.hidden_dim,
            projection_dim=self.projection_dim,
            weights=weights,
        )
