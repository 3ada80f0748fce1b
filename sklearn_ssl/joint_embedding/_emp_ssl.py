"""EMP-SSL: many patches of an image agree with their mean, and batches stay spread out."""

from numbers import Integral
from typing import ClassVar

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE, POSITIVE
from sklearn_ssl._utils._device import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import mlp
from sklearn_ssl.views import Views

__all__ = ["EMPSSL"]


def coding_rate(z: Tensor, epsilon: float) -> Tensor:
    """Compute the total coding rate, log det(I + d / (n epsilon) z.T z) / 2, of z (..., n, d)."""
    n, d = z.shape[-2:]
    rows = z.float() if n <= d else z.float().mT  # z z.T and z.T z give the same determinant
    with full_precision(z.device):
        gram = rows @ rows.mT
    matrix = torch.eye(len(gram[0]), device=z.device) + d / (n * epsilon) * gram
    # eigenvalues are 1 or more, so nobody has to wait for the device to say that it went well
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
        rate = coding_rate(z, self.epsilon).mean()
        similarity = F.cosine_similarity(z, z.mean(0, keepdim=True), dim=2).mean()
        loss = -rate - self.invariance_weight * similarity
        return TaskOutput(loss, {"coding_rate": rate, "similarity": similarity})


class EMPSSL(PretextLearner):
    """Extreme multi-patch self-supervised learning [1]_.

    Many patches of a fixed size are cut from each image. Their embeddings are drawn to their mean,
    while the total coding rate, a log-determinant, keeps those of a batch spread out. With so many
    patches an image is learned from in few epochs: a step takes ``n_patches / 2`` times as long as
    one with two views, and as much more memory.

    Unlike in the paper, features are those of the whole image, as for all learners; there they are
    the mean, over many patches, of the projector's first hidden layer. Patches, a quarter of the
    image, are seen as large as they are (``views__size`` enlarges them; the paper does, to the size
    of the image), and the optimizer is AdamW instead of LARS.

    Parameters
    ----------
    n_patches : int, default=20
        Number of patches of each image, two at least. The paper takes 20 to 200.
    invariance_weight : float, default=200.0
        Weight of the cosine similarity of patches to the mean of their image, the paper's lambda.
    epsilon : float, default=0.2
        Squared error up to which the coding rate counts: the paper's epsilon squared, which is
        ``eps`` in its code. With small values, embeddings are spread out more.
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=512
        Width of the embeddings.
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

    def _default_views(self):
        return Views(
            crop_scale=(0.25, 0.25),
            crop_ratio=(1.0, 1.0),
            jitter=(0.4, 0.4, 0.4, 0.2),
            solarize=0.1,
        )

    def _make_task(self, encoder, n_images):
        return EMPSSLTask(
            encoder,
            self._make_views(),
            hidden_dim=self.hidden_dim,
            projection_dim=self.projection_dim,
            n_patches=self.n_patches,
            invariance_weight=self.invariance_weight,
            epsilon=self.epsilon,
        )
