"""Feature maps to vectors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Pair", "pool_features", "pool_layers", "pooled_width"]

Pair = tuple[str, str | int | None]  # a layer, and how its map is pooled


def pool_layers(encoder: Any, images: Tensor, wanted: list[Pair]) -> Tensor:
    """Features (n, d) of layers and their pools, one beside the other, in one pass."""
    layers = list(dict.fromkeys(layer for layer, _ in wanted))
    maps = dict(zip(layers, encoder.maps(images, *layers), strict=True))
    parts = [pool_features(maps[layer].float(), pool) for layer, pool in wanted]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


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
