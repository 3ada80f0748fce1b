"""Encoders: networks with named layers, each giving a feature map that can be pooled."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl.encoders._layers import layer_reader
from sklearn_ssl.nn import ChannelScaling

__all__ = ["BackboneEncoder", "Encoder"]


class Encoder(nn.Module, ABC):
    """What learners and tasks ask of a network: images in [0, 1] to maps of named layers.

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
        """What pretext tasks train."""
        return next(reversed(self.layers))

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Shape (d, gh, gw) of the last layer's map, which pretext tasks train."""
        return self.layers[self.last_layer]

    @abstractmethod
    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Feature maps (n, d, gh, gw) of several layers in one pass."""

    def forward(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Feature map (n, d, gh, gw) of ``layer``, by default the last one."""
        return self.maps(images, layer or self.last_layer)[0]

    def embed(self, images: Tensor) -> Tensor:
        """The last layer's map averaged over positions, (n, d): what heads are put on."""
        return self(images).mean((2, 3))

    @torch.no_grad()
    def shape_of(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Shape (d, gh, gw) of the last layer's map for images of another size."""
        training = self.training
        _, d, rows, columns = self.eval()(torch.zeros(1, self.image_shape[2], *size)).shape
        self.train(training)
        return d, rows, columns


class BackboneEncoder(Encoder):
    """An encoder that reads the layers of any network.

    Networks that take images of one size only, as ImageNet's transformers, see all others resized
    to it; images that are too small for a network are enlarged.

    Parameters
    ----------
    backbone : nn.Module
        Takes images (n, c, h, w). Its named children, and the members of its ``nn.Sequential`` and
        ``nn.ModuleList`` children, are the layers, where they give a tensor of three or four
        dimensions: maps (n, d, gh, gw) or tokens (n, t, d).
    image_shape : tuple of int
        Height, width and channels of the images.
    mean, std : sequence of float
        Per channel, of images in [0, 1]; the backbone sees standardized images.

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
    ):
        super().__init__()
        _check_parametrizations(backbone)
        self.backbone = backbone
        self.image_shape = image_shape
        self.standardize = ChannelScaling(mean, std)
        self.reader = layer_reader(backbone)
        self._channels_last: set[str] = set()  # layers whose maps are (n, gh, gw, d)
        self.layers = self._find_layers()
        self.default_layer = self._choose_layer()
        self.smallest = self._find_smallest()
        self.takes_one_size = self.smallest == image_shape[:2] and max(self.smallest) > 1

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Feature maps (n, d, gh, gw) of several layers in one pass."""
        images = self.prepare(images)
        outputs = self.reader.read(self.backbone, images, list(layers))
        if missed := [repr(name) for name in layers if name not in outputs]:
            raise ValueError(f"the backbone's forward pass never reached layer {', '.join(missed)}")
        return [self._as_map(outputs[name], images.shape[-2:], name) for name in layers]

    def prepare(self, images: Tensor) -> Tensor:
        """What the backbone is given: standardized images, of a size that it takes."""
        images = self.standardize(images)
        size = tuple(images.shape[2:])
        wanted = tuple(max(pair) for pair in zip(size, self.smallest, strict=True))
        if self.takes_one_size:
            wanted = self.smallest
        if size != wanted:
            images = F.interpolate(images, wanted, mode="bilinear", antialias=True)
        return images

    def _as_map(self, output: Any, size: Sequence[int], layer: str) -> Tensor:
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if layer in self._channels_last else output
        prefix = getattr(self.backbone, "num_prefix_tokens", None)
        height, width = size
        rows, columns, extra = _token_grid(output.shape[1], height, width, prefix)
        return output[:, extra:].transpose(1, 2).unflatten(2, (rows, columns))

    # What a run of a blank image shows

    def _find_layers(self) -> dict[str, tuple[int, int, int]]:
        height, width, _ = self.image_shape
        outputs = self._run_blank(height, width, self.reader.names(self.backbone))
        order_of_all = getattr(self.backbone, "output_fmt", "NCHW")  # as timm calls it
        found: dict[str, tuple[int, int, int]] = {}
        unread: dict[str, str] = {}  # parts behind the last layer that give something else
        for name, output in outputs.items():
            module = self.backbone.get_submodule(name)
            if isinstance(output, Tensor) and output.ndim in (3, 4):
                order = getattr(module, "output_fmt", order_of_all)
                if order == "NHWC" and not isinstance(module, nn.Conv2d):
                    self._channels_last.add(name)
                _, d, rows, columns = self._as_map(output, (height, width), name).shape
                found[name] = d, rows, columns
                unread = {}
            elif not (isinstance(output, Tensor) and output.ndim == 2) and any(module.parameters()):
                unread[name] = _described(output)
        if unread or not found:
            parts = "; ".join(f"{name!r} gives {what}" for name, what in unread.items())
            raise ValueError(
                f"the layers of {type(self.backbone).__name__} cannot be read: "
                f"{parts or 'no part gives a map'}. An encoder is made of parts, named children of "
                "a module, that give a tensor (n, d, h, w) or (n, tokens, d); wrap others"
            )
        return found

    def _choose_layer(self) -> str:
        """The last layer with a finer map than the output, or a late one where none is finer."""
        _, rows, columns = self.out_shape
        finer = [name for name, (_, h, w) in self.layers.items() if h * w > rows * columns]
        return finer[-1] if finer else list(self.layers)[max(0, len(self.layers) - 3)]

    @torch.no_grad()
    def _run_blank(self, height: int, width: int, names: list[str]) -> dict[str, Any]:
        training = self.backbone.training
        self.backbone.eval()
        try:
            blank = torch.zeros(1, self.image_shape[2], height, width)
            return self.reader.read(self.backbone, blank, names)
        finally:
            self.backbone.train(training)

    def _find_smallest(self) -> tuple[int, int]:
        """The smallest size that the backbone takes, of an eighth, a quarter, half and all."""
        smallest = self.image_shape[:2]
        for share in (2, 4, 8):
            height, width = (-(-side // share) for side in self.image_shape[:2])
            try:
                self._run_blank(height, width, [self.last_layer])
            except (RuntimeError, AssertionError, ValueError):
                break
            smallest = height, width
        return smallest


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {output.ndim} dimensions"
    return f"a {type(output).__name__}"


def _check_parametrizations(backbone: nn.Module) -> None:
    for name, module in backbone.named_modules():
        if nn.utils.parametrize.is_parametrized(module):
            raise ValueError(
                f"{name or 'the encoder'!r} has parametrized weights, which torch cannot pickle; "
                "use torch.nn.utils.weight_norm or a layer that computes them in its forward pass"
            )


def _token_grid(
    tokens: int, height: int, width: int, prefix: int | None = None
) -> tuple[int, int, int]:
    """Rows and columns of tokens of square patches, and the class tokens before them.

    Tokens that fit no such grid are a single row.
    """
    sides = range(1, min(height, width) + 1)
    grids = (
        [(height // p, width // p) for p in sides if height % p == width % p == 0],
        [(height // p, width // p) for p in sides],
        [(-(-height // p), -(-width // p)) for p in sides],
    )
    for grid in grids:
        for extra in range(min(tokens, 6)) if prefix is None else (prefix, 0):
            for rows, columns in grid:
                if rows * columns == tokens - extra:
                    return rows, columns, extra
    return 1, tokens, 0
