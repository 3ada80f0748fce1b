"""Learning to count: what is counted in the tiles adds up to what is counted in the image."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import mlp
from sklearn_ssl.views import Views, random_tiles

__all__ = ["LearningToCount"]


def counting_loss(whole: Tensor, parts: Tensor, margin: float) -> Tensor:
    """Compute equation 3: counts of an image (n, k) against the sum of its tiles' (n, k).

    The sum has to be near the counts of its own image, and, lest all counts become zero, far from
    those of another one.
    """
    own = (whole - parts).square().sum(1)
    other = (whole.roll(1, 0) - parts).square().sum(1)
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
        whole = random_tiles(images, 1, self.tile).flatten(0, 1)  # all of it, as large as a tile
        counts = self.counter(self.encoder.embed(torch.cat([whole, tiles]))).float()
        parts = counts[n:].unflatten(0, (n, 4)).sum(1)
        loss = counting_loss(counts[:n], parts, self.margin)
        return TaskOutput(loss, {"count": counts[:n].mean()})


class LearningToCount(PretextLearner):
    """Representation learning by learning to count [1]_.

    The network counts what it sees, in numbers that are not negative. The counts of an image, made
    as small as a tile, have to equal the sum of the counts of its four tiles, and not those of
    another image. The counter has a batch norm in its hidden layer, unlike in the paper.

    Parameters
    ----------
    margin : float, default=100.0
        How far the counts of different images should be apart (squared distance), the paper's M,
        which is 10 there. Where it is small, counts stay near zero for long.
    hidden_dim : int, default=512
        Width of the hidden layer.
    count_dim : int, default=256
        How many things are counted; the paper has 1,000.
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
        size = encoder.image_shape[:2]
        views = self._make_views(size)
        tile = tuple(max(1, side // 2) for side in views.size_for(encoder.image_shape))
        return CountingTask(
            encoder,
            views,
            tile=tile,
            hidden_dim=self.hidden_dim,
            count_dim=self.count_dim,
            margin=self.margin,
        )
