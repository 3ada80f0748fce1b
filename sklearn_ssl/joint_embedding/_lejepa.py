"""LeJEPA: views agree, while a statistical test keeps embeddings isotropic Gaussian."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, SHARE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp
from sklearn_ssl.views import Views


def sigreg(z: Tensor, directions: Tensor, knots: int = 17, t_max: float = 3.0) -> Tensor:
    """Compute the sketched isotropic Gaussian regularization, a mean Epps-Pulley statistic.

    Parameters
    ----------
    z : Tensor of shape (v, n, d)
        Embeddings of v views; each view is a separate sample for the test.
    directions : Tensor of shape (d, m)
        Unit vectors to project onto.
    knots, t_max : int, float
        Number and range [0, t_max] of the points where characteristic functions are compared.
    """
    t = torch.linspace(0, t_max, knots, device=z.device)
    gauss = (-t.square() / 2).exp()  # both characteristic function and weight
    z = gather(z, 1)
    with full_precision(z.device):
        angle = (z.float() @ directions)[..., None] * t  # (v, n, m, knots)
    error = (angle.cos().mean(1) - gauss).square() + angle.sin().mean(1).square()
    integral = 2 * torch.trapezoid(error * gauss, dx=t_max / (knots - 1))  # even in t
    return z.shape[1] * integral.mean()


class LeJEPATask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, sigreg_weight, directions):
        super().__init__(encoder, views)
        self.sigreg_weight = sigreg_weight
        self.directions = directions
        width = encoder.out_shape[0]
        self.projector = mlp(width, hidden_dim, hidden_dim, projection_dim)

    def forward(self, images, index):
        z = self.embed_crops(images)
        z = self.projector(z).float().unflatten(0, (-1, len(images)))  # (views, n, d)
        prediction = (z[:2].mean(0) - z).square().mean()
        # several processes average over directions of their own
        directions = torch.randn(z.shape[2], self.directions, device=z.device)
        gaussian = sigreg(z, F.normalize(directions, dim=0))
        loss = (1 - self.sigreg_weight) * prediction + self.sigreg_weight * gaussian
        return TaskOutput(loss, {"prediction": prediction, "sigreg": gaussian})


class LeJEPA(MultiCropArguments, PretextLearner):
    """Latent-Euclidean joint-embedding predictive architecture [1]_.

    All views of an image, large and small, are drawn to the mean of its large views, while a
    statistical test on random projections (SIGReg) keeps the embeddings of a batch distributed as
    an isotropic Gaussian. There is one loss weight, no EMA and no stop-gradient.

    Parameters
    ----------
    sigreg_weight : float, default=0.05
        Weight of SIGReg, the paper's lambda; that of the prediction is 1 minus this.
    directions : int, default=256
        Number of random projections per step.
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=64
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Balestriero and LeCun (2025), LeJEPA: Provable and Scalable Self-Supervised Learning
       Without the Heuristics, https://arxiv.org/abs/2511.08544

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import LeJEPA
    >>> X = load_digits().images[:256]
    >>> ssl = LeJEPA(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    sigreg_weight: float = argument(SHARE, default=0.05)
    directions: int = argument(COUNT, default=256)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=64)
    local_crops: int = 2

    _task_class: ClassVar = LeJEPATask

    def _default_views(self):
        return Views(crop_scale=(0.2, 1.0), solarize=(0.0, 0.2))
