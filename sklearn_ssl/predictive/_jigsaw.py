"""Jigsaw puzzles: predict the order of an image's shuffled tiles."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, Interval
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import classification, mlp
from sklearn_ssl.views import Views, random_tiles

_CANDIDATES = 2000  # random permutations to choose the set from
_ORDERS = 4  # per image and step


def distant_permutations(n_permutations: int, n_tiles: int, seed: int = 0) -> np.ndarray:
    """Draw permutations (n_permutations, n_tiles) that are far from each other.

    From random candidates, repeatedly pick the one with the largest mean Hamming distance to those
    picked before, as in the paper's algorithm 1.
    """
    rng = np.random.default_rng(seed)
    candidates = np.argsort(rng.random((max(_CANDIDATES, 4 * n_permutations), n_tiles)), axis=1)
    candidates = np.unique(candidates, axis=0)
    chosen = [int(rng.integers(len(candidates)))]
    distance = np.zeros(len(candidates))
    while len(chosen) < min(n_permutations, len(candidates)):
        distance += (candidates != candidates[chosen[-1]]).sum(1)
        distance[chosen] = -np.inf
        chosen.append(int(distance.argmax()))
    return candidates[chosen]


class JigsawTask(PretextTask):
    permutations: Tensor

    def __init__(self, encoder, views, *, tile, grid, fill, n_permutations, tile_dim, hidden_dim):
        super().__init__(encoder, views)
        self.tile = tile
        self.grid = grid
        self.fill = fill
        permutations = torch.from_numpy(distant_permutations(n_permutations, grid**2))
        self.register_buffer("permutations", permutations)
        self.tile_code = nn.Sequential(
            nn.Linear(encoder.out_shape[0], tile_dim), nn.ReLU(inplace=True)
        )
        self.classifier = mlp(grid**2 * tile_dim, hidden_dim, len(permutations))

    def forward(self, images, index):
        n = len(images)
        tiles = random_tiles(self.views(images), self.grid, self.tile, self.fill)
        # neighbors have similar statistics, so each tile is standardized by itself
        mean = tiles.mean((2, 3, 4), keepdim=True)
        std = tiles.std((2, 3, 4), keepdim=True, correction=0)
        tiles = (tiles - mean) / (std + 1e-2)
        tiles = self.encoder.standardize.inverse(tiles.flatten(0, 1))  # undone by the encoder
        codes = self.tile_code(self.encoder.embed(tiles)).unflatten(0, (n, -1))
        # tiles are encoded once and shuffled several times
        codes = codes.repeat(_ORDERS, 1, 1)  # (orders * n, tiles, tile_dim)
        label = torch.randint(len(self.permutations), (len(codes),), device=images.device)
        order = self.permutations[label]
        shuffled = codes.gather(1, order[..., None].expand_as(codes))
        loss, accuracy = classification(self.classifier(shuffled.flatten(1)), label)
        return TaskOutput(loss, {"accuracy": accuracy})


class Jigsaw(PretextLearner):
    """Solving jigsaw puzzles [1]_.

    The tiles of an image are shuffled by one of a set of permutations that differ as much as
    possible. The network, which sees each tile separately, predicts which one it was. To prevent
    shortcuts, tiles have random positions in their cells, are enlarged to the cell's size, and are
    standardized one by one. A step shows each image in four orders, but encodes its tiles only
    once.

    Parameters
    ----------
    grid : int, default=3
        Number of tiles per row and per column.
    n_permutations : int, default=100
        Size of the set of permutations, capped at the number that exist; the paper uses up to
        1,000.
    fill : float, default=0.75
        Side of a tile, relative to its cell.
    tile_dim : int, default=64
        Dimension of a tile's code.
    hidden_dim : int, default=512
        Width of the hidden layer, which combines all tiles.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Noroozi and Favaro (2016), Unsupervised Learning of Visual Representations by Solving
       Jigsaw Puzzles, https://arxiv.org/abs/1603.09246

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import Jigsaw
    >>> X = load_digits().images[:256]
    >>> ssl = Jigsaw(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    grid: int = argument(Interval(Integral, 2, None, closed="left"), default=3)
    n_permutations: int = argument(Interval(Integral, 2, None, closed="left"), default=100)
    fill: float = argument(Interval(Real, 0, 1, closed="right"), default=0.75)
    tile_dim: int = argument(COUNT, default=64)
    hidden_dim: int = argument(COUNT, default=512)

    def _default_views(self):
        return Views(crop_scale=(0.5, 1.0), jitter=None, gray=0.3, blur=0)

    def _make_task(self, encoder, n_images):
        views = self._make_views(encoder.image_shape[:2])
        tile = tuple(max(1, -(-side // self.grid)) for side in views.size_for(encoder.image_shape))
        return self._new_task(JigsawTask, encoder, views, tile=tile)
