"""Encoders: networks with named layers, each giving a feature map that can be pooled."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._warnings import warn
from sklearn_ssl.encoders._layers import layer_reader
from sklearn_ssl.encoders._layouts import Layout, find_layout, is_open, to_map
from sklearn_ssl.encoders._paths import behind, left_out
from sklearn_ssl.exceptions import EncoderWarning
from sklearn_ssl.nn import ChannelScaling

__all__ = ["BackboneEncoder", "Encoder"]

_WANTED = (
    "An encoder is made of parts, named children of a module, that give a tensor (n, d, h, w) or "
    "(n, tokens, d); wrap others in a module that does"
)
_WRONG_SIZE = (RuntimeError, AssertionError, ValueError)  # what networks raise of one


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
        self._layouts: dict[str, Layout] = {}
        self.layers, self.default_layer = self._find_layers()
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

    def _as_map(self, output: Tensor, size: Sequence[int], layer: str) -> Tensor:
        prefix = getattr(self.backbone, "num_prefix_tokens", None)
        return to_map(output, self._layouts[layer], size, prefix)

    # What runs of blank images show

    def _find_layers(self) -> tuple[dict[str, tuple[int, int, int]], str]:
        height, width, _ = self.image_shape
        names = self.reader.names(self.backbone)
        with torch.enable_grad():
            outputs = self._run_blank(height, width, names)
        maps = {name: out for name, out in outputs.items() if _may_be_a_map(out)}
        self._check_readable(outputs, maps)
        self._layouts = self._find_layouts(maps)
        layers: dict[str, tuple[int, int, int]] = {}
        for name, output in maps.items():
            _, d, rows, columns = self._as_map(output, (height, width), name).shape
            layers[name] = d, rows, columns
        if self.reader.gives_maps:
            return layers, _choose_layer(layers)
        nodes = behind(maps[next(reversed(maps))])
        heads = [name for name, out in outputs.items() if isinstance(out, Tensor) and out.ndim < 3]
        self._check_trained(nodes, heads)
        trained = [name for name, out in maps.items() if not nodes or _source(out) in nodes]
        last = next(reversed(layers))
        return layers, _choose_layer({n: layers[n] for n in layers if n in trained or n == last})

    def _check_readable(self, outputs: dict[str, Any], maps: dict[str, Tensor]) -> None:
        """Raise ValueError if there are no maps, or a part behind the last gives no vector."""
        behind_last = list(outputs)
        if maps:
            behind_last = behind_last[behind_last.index(next(reversed(maps))) + 1 :]
        parts = "; ".join(
            f"{name!r} gives {_described(outputs[name])}"
            for name in behind_last
            if not isinstance(outputs[name], Tensor)
            or (outputs[name].ndim != 2 and any(self.backbone.get_submodule(name).parameters()))
        )
        if parts or not maps:
            raise ValueError(
                f"the layers of {type(self.backbone).__name__} cannot be read: "
                f"{parts or 'no part gives a map'}. {_WANTED}"
            )

    def _find_layouts(self, maps: dict[str, Tensor]) -> dict[str, Layout]:
        if self.reader.gives_maps:
            return dict.fromkeys(maps, "NCHW")
        height, width, _ = self.image_shape
        shapes = {name: [tuple(output.shape)] for name, output in maps.items()}
        for size in ((-(-height // 2), -(-width // 2)), (2 * height, 2 * width)):
            unsure = [name for name, seen in shapes.items() if is_open(seen)]
            for name, output in self._try_blank(*size, unsure).items():
                shapes[name].append(tuple(output.shape))
        order = getattr(self.backbone, "output_fmt", None)  # as timm calls it
        layouts: dict[str, Layout] = {}
        for name, seen in shapes.items():
            is_conv = isinstance(self.backbone.get_submodule(name), nn.Conv2d)
            layout = find_layout(seen, (height, width), None if is_conv else order)
            if layout is None:
                raise ValueError(
                    f"layer {name!r} of {type(self.backbone).__name__} gives outputs of shapes "
                    f"{' and '.join(map(str, seen))} for images of different sizes, so that none "
                    f"of its dimensions is that of the features. {_WANTED}"
                )
            layouts[name] = layout
        return layouts

    def _check_trained(self, nodes: set[Any], heads: list[str]) -> None:
        """Raise ValueError if most of the backbone has no part in its last layer; warn of less."""
        if not nodes:  # all weights are frozen
            return
        body = {
            name: parameter
            for name, parameter in self.backbone.named_parameters()
            if parameter.requires_grad and not any(name.startswith(f"{head}.") for head in heads)
        }
        unused = {n: p for n, p in left_out(self.backbone, nodes).items() if n in body}
        if not unused:
            return
        parts = ", ".join(dict.fromkeys(repr(name.partition(".")[0]) for name in unused))
        message = (
            f"{parts} of {type(self.backbone).__name__} take no part in its last layer "
            f"{next(reversed(self._layouts))!r}, so pretext tasks do not train them"
        )
        if 2 * sum(p.numel() for p in unused.values()) > sum(p.numel() for p in body.values()):
            raise ValueError(f"{message}, and they are most of it. {_WANTED}")
        warn(message, EncoderWarning)

    @torch.no_grad()
    def _try_blank(self, height: int, width: int, names: list[str]) -> dict[str, Any]:
        """Outputs for a blank image of another size; none if the backbone does not take it."""
        try:
            return self._run_blank(height, width, names) if names else {}
        except _WRONG_SIZE:
            return {}

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
            if not self._try_blank(height, width, [self.last_layer]):
                break
            smallest = height, width
        return smallest


def _may_be_a_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim in (3, 4)


def _choose_layer(layers: dict[str, tuple[int, int, int]]) -> str:
    """The last layer with a finer map than the output, or a late one where none is finer."""
    names = list(layers)
    _, rows, columns = layers[names[-1]]
    finer = [name for name, (_, h, w) in layers.items() if h * w > rows * columns]
    return finer[-1] if finer else names[max(0, len(names) - 3)]


def _source(output: Tensor) -> Any:
    """What computed an output of which the reader gives a copy."""
    return output.grad_fn and output.grad_fn.next_functions[0][0]


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
