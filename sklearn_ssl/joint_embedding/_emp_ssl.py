"""EMP-SSL: embeddings of many patches agree with their mean, while batches stay spread out."""

from numbers import Integral
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, POSITIVE, Interval
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp
from sklearn_ssl.views import Views


def coding_rate(z: Tensor, epsilon: float) -> Tensor:
    """Compute the total coding rate, log det(I + d / (n epsilon) z.T z) / 2, of z (..., n, d)."""
    n, d = z.shape[-2:]
    rows = z.float() if n <= d else z.float().mT  # z z.T and z.T z have the same determinant
    with full_precision(z.device):
        gram = rows @ rows.mT
    matrix = torch.eye(len(gram[0]), device=z.device) + d / (n * epsilon) * gram
    # eigenvalues are 1 or more, so it succeeds: no need to wait for the device to say so
    factor, _ = torch.linalg.cholesky_ex(matrix)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class EMPSSLTask(PretextTask):
    def __init__(
        self, encoder, views, *, hidden_dim, projection_dim, n_patches, invariance_weight, epsilon
    ):
        super().__init__(encoder, views)
        self.n_patches = n_patches
        self.invariance_weight = invariance_weight
        self.epsilon = epsilon
        self.projector = mlp(encoder.out_shape[0], hidden_dim, hidden_dim, projection_dim)

    def forward(self, images, index):
        patches = torch.cat([self.views(images, view) for view in range(self.n_patches)])
        z = F.normalize(self.projector(self.encoder.embed(patches)).float(), dim=1)
        z = z.unflatten(0, (self.n_patches, -1))  # (n_patches, n, d)
        rate = coding_rate(gather(z, 1), self.epsilon).mean()
        similarity = F.cosine_similarity(z, z.mean(0, keepdim=True), dim=2).mean()
        loss = -rate - self.invariance_weight * similarity
        return TaskOutput(loss, {"coding_rate": rate, "similarity": similarity})


class EMPSSL(PretextLearner):
    """Extreme multi-patch self-supervised learning [1]_.

    Many patches of a fixed size are cut from each image. Their embeddings are drawn to their mean,
    while the total coding rate, a log-determinant, keeps those of a batch spread out. With so many
    patches, few epochs are enough, but a step needs ``n_patches / 2`` times the time and memory of
    one with two views.

    Unlike in the paper, features come from the whole image, as for all learners; the paper averages
    the projector's first hidden layer over many patches. Patches cover a quarter of the image and
    keep their size (``views__size`` enlarges them; the paper enlarges them to the size of the
    image), and the optimizer is AdamW instead of LARS.

    Parameters
    ----------
    n_patches : int, default=20
        Number of patches per image, at least two. The paper uses 20 to 200.
    invariance_weight : float, default=200.0
        Weight of the cosine similarity of patches with their image's mean, the paper's lambda.
    epsilon : float, default=0.2
        Squared distortion of the coding rate: the paper's epsilon squared, which is ``eps`` in its
        code. Smaller values spread embeddings out more.
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
    .. [1] Tong, Chen, Ma and LeCun (2023), EMP-SSL: Towards Self-Supervised Learning in One
       Training Epoch, https://arxiv.org/abs/2304.03977

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import EMPSSL
    >>> X = load_digits().images[:64]
    >>> ssl = EMPSSL(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (64, 512)
    """

    n_patches: int = argument(Interval(Integral, 2, None, closed="left"), default=20)
    invariance_weight: float = argument(NOT_NEGATIVE, default=200.0)
    epsilon: float = argument(POSITIVE, default=0.2)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=512)

    _usual_batch_size: ClassVar[int] = 64

    _task_class: ClassVar = EMPSSLTask

    def _default_views(self):
        return Views(
            crop_scale=(0.25, 0.25),
            crop_ratio=(1.0, 1.0),
            jitter=(0.4, 0.4, 0.4, 0.2),
            solarize=0.1,
        )
