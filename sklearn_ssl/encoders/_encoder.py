"""Encoders: networks with named layers, each giving a feature map that can be pooled."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._device import evaluation
from sklearn_ssl._utils._ranks import by_rank
from sklearn_ssl.encoders._layers import layer_reader
from sklearn_ssl.encoders._layouts import to_map
from sklearn_ssl.encoders._probing import Probe
from sklearn_ssl.nn import ChannelScaling

__all__ = [
    "BackboneEncoder",
    "Encoder",
    "Pair",
    "Pool",
    "fixed_pool",
    "pool_features",
    "pooled_width",
]

Pool = str | int | tuple[int, int] | None
Pair = tuple[str, Pool]  # a layer, and how its map is pooled


def pool_features(features: Tensor, pool: Pool) -> Tensor:
    """Pool feature maps (n, d, gh, gw) to vectors.

    ``pool`` is ``"avg"``, ``"max"``, the side of a grid that is cut to the map's sides, the rows
    and columns of a grid, or None for all values.
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
    """Return the pool that gives maps of all sizes as many features as a map (d, gh, gw)."""
    if isinstance(pool, (str, tuple)):
        return pool
    rows, columns = map_shape[1:]
    return (rows, columns) if pool is None else (min(int(pool), rows), min(int(pool), columns))


def pooled_width(map_shape: tuple[int, int, int], pool: Pool) -> int:
    """Return the number of features that ``pool_features`` makes of a map (d, gh, gw)."""
    with torch.device("meta"):
        return pool_features(torch.empty(1, *map_shape), pool).shape[1]


class Encoder(nn.Module, ABC):
    """Interface of networks for learners and tasks: images in [0, 1] to maps of named layers.

    Attributes
    ----------
    image_shape : tuple of int
        Height, width and channels of the images.
    layers : dict of str to tuple of int
        Shape (d, gh, gw) of each layer's map for images of ``image_shape``, in the order in which
        the layers are reached. The last one is what pretext tasks train.
    default_layer : str
        Whose features a learner gives if it is not asked for a layer.
    """

    image_shape: tuple[int, int, int]
    layers: dict[str, tuple[int, int, int]]
    default_layer: str

    @property
    def last_layer(self) -> str:
        """Name of the layer that pretext tasks train."""
        return next(reversed(self.layers))

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Shape (d, gh, gw) of the last layer's map, which pretext tasks train."""
        return self.layers[self.last_layer]

    @abstractmethod
    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute feature maps (n, d, gh, gw) of several layers in one pass."""

    def forward(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Compute the feature map (n, d, gh, gw) of ``layer``, by default the last one."""
        return self.maps(images, layer or self.last_layer)[0]

    @by_rank
    def features(self, images: Tensor, wanted: list[Pair], mirror: bool = False) -> Tensor:
        """Compute features (n, d) of layers and their pools, side by side, in one pass.

        With ``mirror`` they are the mean over an image and its mirror image.
        """
        if mirror:
            return (self._features(images, wanted) + self._features(images.flip(3), wanted)) / 2
        return self._features(images, wanted)

    def _features(self, images: Tensor, wanted: list[Pair]) -> Tensor:
        layers = list(dict.fromkeys(layer for layer, _ in wanted))
        maps = dict(zip(layers, self.maps(images, *layers), strict=True))
        parts = [pool_features(maps[layer].float(), pool) for layer, pool in wanted]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @by_rank
    def embed(self, images: Tensor) -> Tensor:
        """Average the last layer's map over positions: vectors (n, d), which heads are put on."""
        return self(images).mean((2, 3))

    @torch.no_grad()
    def shape_of(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape (d, gh, gw) of the last layer's map for images of another size."""
        with evaluation(self):
            _, d, rows, columns = self(torch.zeros(1, self.image_shape[2], *size)).shape
        return d, rows, columns


class BackboneEncoder(Encoder):
    """An encoder that reads the layers of any network.

    Networks that take images of one size only, like ImageNet's transformers, see all others resized
    to it; images that are too small for a network are enlarged.

    Parameters
    ----------
    backbone : nn.Module
        Takes images (n, c, h, w). Its named children, and the members of its ``nn.Sequential`` and
        ``nn.ModuleList`` children, are the layers, where they give a tensor of three or four
        dimensions: maps (n, d, gh, gw) or (n, gh, gw, d), or tokens (n, t, d) or (n, d, t). Of
        timm's models, the layers are those of their ``feature_info``.
    image_shape : tuple of int
        Height, width and channels of the images.
    mean, std : sequence of float
        Per channel, of images in [0, 1]; the backbone sees standardized images.
    input_size : tuple of int, optional
        Height and width to which images of ``image_shape`` are resized for the backbone; views of
        other sizes are resized by the same factors.

    Attributes
    ----------
    standardize : ChannelScaling
        Images in [0, 1] to zero mean and unit variance per channel; ``standardize.inverse`` back.
    """

    def __init__(
        self,
        backbone: nn.Module,
        image_shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        _check_parametrizations(backbone)
        self.backbone = backbone
        self.image_shape = image_shape
        self.input_size = image_shape[:2] if input_size is None else input_size
        self.standardize = ChannelScaling(mean, std)
        self.reader = layer_reader(backbone)
        probe = Probe(backbone, self.reader, (*self.input_size, image_shape[2]))
        self.layers, self._layouts, self.default_layer = probe.layers()
        self.smallest = probe.smallest(self.last_layer)
        self.takes_one_size = (
            self.smallest == self.input_size
            and max(self.smallest) > 1
            and not probe.takes_larger(self.last_layer)
        )

    @by_rank
    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute feature maps (n, d, gh, gw) of several layers in one pass."""
        images = self.prepare(images)
        outputs = self.reader.read(self.backbone, images, list(layers))
        if missed := [repr(name) for name in layers if name not in outputs]:
            raise ValueError(f"the backbone's forward pass never reached layer {', '.join(missed)}")
        return [self._as_map(outputs[name], images.shape[-2:], name) for name in layers]

    def prepare(self, images: Tensor) -> Tensor:
        """Standardize images for the backbone, and resize them to a size that it takes."""
        images = self.standardize(images)
        size = tuple(images.shape[2:])
        factors = zip(size, self.input_size, self.image_shape, strict=False)
        scaled = ((side * resized + whole // 2) // whole for side, resized, whole in factors)
        wanted = tuple(max(pair) for pair in zip(scaled, self.smallest, strict=True))
        if self.takes_one_size:
            wanted = self.smallest
        if size != wanted:
            images = F.interpolate(images, wanted, mode="bilinear", antialias=True)
        return images

    @property
    def is_transformer(self) -> bool:
        """Return whether the last layer gives tokens, or did before timm made maps of them."""
        of_tokens = self._layouts[self.last_layer] in ("NLC", "NCL")
        return of_tokens or hasattr(self.backbone, "num_prefix_tokens")

    def _as_map(self, output: Tensor, size: Sequence[int], layer: str) -> Tensor:
        prefix = getattr(self.backbone, "num_prefix_tokens", None)
        return to_map(output, self._layouts[layer], size, prefix)


def _check_parametrizations(backbone: nn.Module) -> None:
    for name, module in backbone.named_modules():
        if nn.utils.parametrize.is_parametrized(module):
            raise ValueError(
                f"{name or 'the encoder'!r} has parametrized weights, which torch cannot pickle; "
                "use torch.nn.utils.weight_norm or a layer that computes them in its forward pass"
            )
