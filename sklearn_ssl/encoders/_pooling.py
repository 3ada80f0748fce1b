"""Feature maps to vectors."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pair", "Pool", "fixed_pool", "pool_features", "pooled_width"]

Pool = str | int | tuple[int, int] | None
Pair = tuple[str, Pool]  # a layer, and how its map is pooled


def pool_features(features: Tensor, pool: Pool) -> Tensor:
    """Feature maps (n, d, gh, gw) to vectors.

    By ``"avg"``, ``"max"``, the side of a grid that is cut to the map's sides, a grid of so many
    rows and columns, or None for all values.
    """
    if pool == "avg":
        return features.mean((2, 3))
    if pool == "max":
        return features.amax((2, 3))
    if pool is not None:
        grid = fixed_pool(features.shape[1:], pool)
        if features.device.type == "mps":  # which pools to whole multiples only
            features = features.cpu()
        features = F.adaptive_avg_pool2d(features, grid)
    return features.flatten(1)


def fixed_pool(map_shape: Sequence[int], pool: Pool) -> Any:
    """What ``pool`` makes of a map (d, gh, gw), for maps of all sizes: features of one width."""
    if isinstance(pool, (str, tuple)):
        return pool
    rows, columns = map_shape[1:]
    return (rows, columns) if pool is None else (min(int(pool), rows), min(int(pool), columns))


def pooled_width(map_shape: tuple[int, int, int], pool: Pool) -> int:
    """Number of features that ``pool_features`` makes of a map (d, gh, gw)."""
    with torch.device("meta"):
        return pool_features(torch.empty(1, *map_shape), pool).shape[1]
