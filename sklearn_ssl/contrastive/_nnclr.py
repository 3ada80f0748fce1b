"""NNCLR: match the nearest neighbor of the other view among earlier images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, POSITIVE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import Queue, info_nce, mlp
from sklearn_ssl.views import BYOL_VIEWS, Views


@torch.no_grad()
def nearest(z: Tensor, support: Tensor) -> Tensor:
    """Return the vector of the support set (q, d) most similar to each unit vector (n, d)."""
    with full_precision(z.device):
        return support[(z @ support.T).argmax(1)]


class NNCLRTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, temperature, queue_size):
        super().__init__(encoder, views)
        self.temperature = temperature
        width = encoder.out_shape[0]
        self.projector = mlp(width, hidden_dim, hidden_dim, projection_dim, last_norm=True)
        self.predictor = mlp(projection_dim, hidden_dim, projection_dim)
        self.queue = Queue(queue_size, projection_dim)

    def forward(self, images, index):
        n = len(images)
        z = self.projector(self.encoder.embed(self.pair(images)))  # (2n, d)
        p = F.normalize(self.predictor(z).float(), dim=1)
        z = F.normalize(z.detach().float(), dim=1)
        # until the queue is full, each view is its own neighbor
        neighbors = torch.where(self.queue.full, nearest(z, self.queue.vectors), z)
        neighbors = neighbors.roll(n, 0)  # of the other view
        state = z[:n]
        neighbors, p = (v.unflatten(0, (2, n)) for v in (neighbors, p))  # (2, n, d)
        return TaskOutput(info_nce(neighbors, p, self.temperature), state=state)

    def after_step(self, output, progress):
        self.queue.push(output.state)


class NNCLR(PretextLearner):
    """Nearest-neighbor contrastive learning of visual representations [1]_.

    One view of an image is replaced by its nearest neighbor in a queue of earlier embeddings. The
    neighbor must match the prediction from the other view, among those of all images in the batch,
    so positives are other images that look alike. Until the queue is full, the view itself is used.

    Parameters
    ----------
    temperature : float, default=0.2
        Temperature that divides the cosine similarities.
    queue_size : int, default=4096
        Number of earlier embeddings to search for neighbors, capped at the number of images.
    hidden_dim : int, default=512
        Width of the hidden layers of the projector and the predictor.
    projection_dim : int, default=128
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Dwibedi, Aytar, Tompson, Sermanet and Zisserman (2021), With a Little Help from My
       Friends: Nearest-Neighbor Contrastive Learning of Visual Representations,
       https://arxiv.org/abs/2104.14548

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import NNCLR
    >>> X = load_digits().images[:256]
    >>> ssl = NNCLR(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    temperature: float = argument(POSITIVE, default=0.2)
    queue_size: int = argument(COUNT, default=4096)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)

    def _default_views(self):
        return Views(**BYOL_VIEWS)

    def _make_task(self, encoder, n_images):
        return self._new_task(NNCLRTask, encoder, queue_size=min(self.queue_size, n_images))
