"""VISReg: views agree, while batches keep the scale, center and shape of a Gaussian."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, SHARE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp
from sklearn_ssl.views import Views

_LEAST_DEVIATION = 1e-6


def gaussian_quantiles(n: int, device: torch.device) -> Tensor:
    """Return the n values that split a standard Gaussian into n + 1 equal shares."""
    shares = torch.arange(1, n + 1, device=device, dtype=torch.float32) / (n + 1)
    return torch.special.ndtri(shares)


def spread_losses(z: Tensor, directions: Tensor) -> dict[str, Tensor]:
    """Compute how far embeddings are from a standard Gaussian: in center, scale and shape.

    Parameters
    ----------
    z : Tensor of shape (v, n, d)
        Embeddings of v views; each view is a separate sample.
    directions : Tensor of shape (d, m)
        Unit vectors to project onto.

    Returns
    -------
    dict of str to Tensor
        ``center``, the mean square of the means; ``scale``, that of the differences between 1 and
        the standard deviations; ``shape``, the squared Wasserstein distance of the standardized
        embeddings from a Gaussian, averaged over directions. As in the authors' code, standard
        deviations get no gradient from it.
    """
    z = gather(z.float(), 1)
    mean = z.mean(1, keepdim=True)
    centered = z - mean
    deviation = centered.square().mean(1, keepdim=True).clamp(min=_LEAST_DEVIATION**2).sqrt()
    with full_precision(z.device):
        projected = centered / deviation.detach() @ directions
    wanted = gaussian_quantiles(z.shape[1], z.device)[:, None]
    return {
        "center": mean.square().mean(),
        "scale": (deviation - 1).square().mean(),
        "shape": (projected.sort(1).values - wanted).square().mean(),
    }


class VISRegTask(PretextTask):
    def __init__(
        self, encoder, views, *, hidden_dim, projection_dim, regularization_weight, center_weight,
        scale_weight, shape_weight, directions,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.regularization_weight = regularization_weight
        self.weights = {"center": center_weight, "scale": scale_weight, "shape": shape_weight}
        self.directions = directions
        self.projector = mlp(encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)

    def forward(self, images, index):
        z = self.projector(self.embed_crops(images)).float().unflatten(0, (-1, len(images)))
        prediction = (z[:2].mean(0) - z).square().mean()
        # several processes average over directions of their own
        directions = torch.randn(z.shape[2], self.directions, device=z.device)
        terms = spread_losses(z, F.normalize(directions, dim=0))
        spread = sum(weight * terms[name] for name, weight in self.weights.items())
        share = self.regularization_weight
        loss = (1 - share) * prediction + share * spread
        return TaskOutput(loss, {"prediction": prediction, **terms})


class VISReg(MultiCropArguments, PretextLearner):
    """Variance-invariance-sketching regularization [1]_.

    All views of an image are drawn to the mean of its two large views, as in :class:`LeJEPA`. The
    embeddings of a batch are kept near a standard Gaussian by three terms: their means, their
    standard deviations, and, for standardized embeddings, the distance of random projections from
    Gaussian quantiles (sliced Wasserstein distance). Because the scale has a term of its own,
    gradients do not vanish when embeddings collapse.

    Parameters
    ----------
    regularization_weight : float, default=0.6
        Weight of the three terms together, the paper's lambda; that of the prediction is 1 minus
        this. The paper uses 0.6 for small datasets.
    center_weight : float, default=1.0
        Weight of the means among the three terms.
    scale_weight : float, default=1.0
        Weight of the standard deviations.
    shape_weight : float, default=1.0
        Weight of the distance from Gaussian quantiles.
    directions : int, default=256
        Number of random projections per step.
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=128
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Wu, Balestriero and Levine (2026), VISReg: Variance-Invariance-Sketching Regularization
       for JEPA Training, https://arxiv.org/abs/2606.02572

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import VISReg
    >>> X = load_digits().images[:256]
    >>> ssl = VISReg(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    regularization_weight: float = argument(SHARE, default=0.6)
    center_weight: float = argument(NOT_NEGATIVE, default=1.0)
    scale_weight: float = argument(NOT_NEGATIVE, default=1.0)
    shape_weight: float = argument(NOT_NEGATIVE, default=1.0)
    directions: int = argument(COUNT, default=256)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)

    _task_class: ClassVar = VISRegTask

    def _default_views(self):
        return Views(crop_scale=(0.2, 1.0), solarize=(0.0, 0.2))
