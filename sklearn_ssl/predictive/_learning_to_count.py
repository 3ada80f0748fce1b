"""Learning to count: the counts of the tiles add up to the counts of the image."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp, own_rows
from sklearn_ssl.views import Views, random_tiles


def counting_loss(whole: Tensor, parts: Tensor, margin: float) -> Tensor:
    """Compute equation 3: counts of images (n, k) against sums of their tiles' counts (n, k).

    A sum must be near the counts of its own image and, so that counts do not all become zero, far
    from those of another one.
    """
    own = (whole - parts).square().sum(1)
    another = own_rows(gather(whole).roll(1, 0))
    other = (another - parts).square().sum(1)
    return (own + F.relu(margin - other)).mean()


class CountingTask(PretextTask):
    def __init__(self, encoder, views, *, tile, hidden_dim, count_dim, margin):
        super().__init__(encoder, views)
        self.tile = tile
        self.margin = margin
        self.counter = nn.Sequential(mlp(encoder.out_shape[0], hidden_dim, count_dim), nn.ReLU())

    def forward(self, images, index):
        n = len(images)
        images = self.views(images)
        tiles = random_tiles(images, 2, self.tile).flatten(0, 1)  # (4n, c, *tile)
        whole = random_tiles(images, 1, self.tile).flatten(0, 1)  # all of it, at the size of a tile
        counts = self.counter(self.encoder.embed(torch.cat([whole, tiles]))).float()
        parts = counts[n:].unflatten(0, (n, 4)).sum(1)
        loss = counting_loss(counts[:n], parts, self.margin)
        return TaskOutput(loss, {"count": counts[:n].mean()})


class LearningToCount(PretextLearner):
    """Representation learning by learning to count [1]_.

    The network outputs nonnegative counts of what it sees. The counts of an image, shrunk to the
    size of a tile, must equal the sum of the counts of its four tiles, and differ from the sum for
    another image. Unlike in the paper, the counter has a batch norm in its hidden layer.

    Parameters
    ----------
    margin : float, default=100.0
        Squared distance to keep between the counts of different images: the paper's M, which is 10
        there. If it is small, counts stay near zero for a long time.
    hidden_dim : int, default=512
        Width of the hidden layer.
    count_dim : int, default=256
        Number of things counted; the paper uses 1,000.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Noroozi, Pirsiavash and Favaro (2017), Representation Learning by Learning to Count,
       https://arxiv.org/abs/1708.06734

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import LearningToCount
    >>> X = load_digits().images[:256]
    >>> ssl = LearningToCount(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    margin: float = argument(NOT_NEGATIVE, default=100.0)
    hidden_dim: int = argument(COUNT, default=512)
    count_dim: int = argument(COUNT, default=256)

    _usual_batch_size: ClassVar[int] = 64

    def _default_views(self):
        return Views(crop_scale=(0.5, 1.0), jitter=None, gray=0.3, blur=0)

    def _make_task(self, encoder, n_images):
        views = self._make_views(encoder.image_shape[:2])
        tile = tuple(max(1, side // 2) for side in views.size_for(encoder.image_shape))
        return self._new_task(CountingTask, encoder, views, tile=tile)
