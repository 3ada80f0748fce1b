"""Feature maps to vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pair", "pool_features", "pooled_width"]

Pair = tuple[str, str | int | None]  # a layer, and how its map is pooled


def pool_features(features: Tensor, pool: str | int | None) -> Tensor:
    """Feature maps (n, d, gh, gw) to vectors: ``"avg"``, ``"max"``, a grid side, or all values."""
    if pool == "avg":
        return features.mean((2, 3))
    if pool == "max":
        return features.amax((2, 3))
    if pool is not None:
        rows, columns = (min(int(pool), side) for side in features.shape[2:])
        if features.device.type == "mps":  # which pools to whole multiples only
            features = features.cpu()
        features = F.adaptive_avg_pool2d(features, (rows, columns))
    return features.flatten(1)


def pooled_width(map_shape: tuple[int, int, int], pool: str | int | None) -> int:
    """Number of features that ``pool_features`` makes of a map (d, gh, gw)."""
    with torch.device("meta"):
        return pool_features(torch.empty(1, *map_shape), pool).shape[1]
