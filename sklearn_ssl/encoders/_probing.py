"""Runs on a blank image that show a network's layers, and the sizes that it takes."""

from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._device import evaluation
from sklearn_ssl._utils._messages import warn
from sklearn_ssl.encoders._layers import LayerReader
from sklearn_ssl.encoders._layouts import Layout, find_layout, is_open, to_map
from sklearn_ssl.exceptions import EncoderWarning

__all__ = ["Probe"]

_WANTED = (
    "An encoder is made of parts, named children of a module, that give a tensor (n, d, h, w) or "
    "(n, tokens, d); wrap others in a module that does"
)
_WRONG_SIZE = (RuntimeError, AssertionError, IndexError, ValueError)  # what networks raise of one


class Probe:
    """A look at a network that is to be an encoder.

    Parameters
    ----------
    backbone : nn.Module
    reader : LayerReader
    image_shape : tuple of int
        Height, width and channels.

    Raises
    ------
    ValueError
        If the layers of the network cannot be read, or its last layer leaves most of it out.
    """

    def __init__(self, backbone: nn.Module, reader: LayerReader, image_shape: tuple[int, int, int]):
        self.backbone = backbone
        self.reader = reader
        self.size, self.channels = image_shape[:2], image_shape[2]
        self.name = type(backbone).__name__

    def layers(self) -> tuple[dict[str, tuple[int, int, int]], dict[str, Layout], str]:
        """Return the shape and layout of each layer, and the name of the default one."""
        with torch.enable_grad():  # to see what layers are computed from
            outputs = self._run(self.size, self.reader.names(self.backbone))
        maps = {
            name: output
            for name, output in outputs.items()
            if isinstance(output, Tensor) and output.ndim in (3, 4)
        }
        self._check_readable(outputs, list(maps))
        layouts = self._layouts(maps)
        prefix = getattr(self.backbone, "num_prefix_tokens", None)
        shapes: dict[str, tuple[int, int, int]] = {}
        for name, output in maps.items():
            _, d, rows, columns = to_map(output, layouts[name], self.size, prefix).shape
            shapes[name] = d, rows, columns
        last = next(reversed(maps))
        used = _leaves(maps[last])
        self._check_trained(outputs, last, used)
        trained = [n for n, output in maps.items() if not used or (_leaves(output) or {0}) <= used]
        return shapes, layouts, _choose_layer({name: shapes[name] for name in trained})

    def smallest(self, layer: str) -> tuple[int, int]:
        """Return the smallest size that the network takes: an eighth, a quarter, half or all."""
        smallest = self.size
        for share in (2, 4, 8):
            height, width = (-(-side // share) for side in self.size)
            if not self._try((height, width), [layer]):
                break
            smallest = height, width
        return smallest

    def takes_larger(self, layer: str) -> bool:
        """Return whether the network takes images of twice the size."""
        height, width = self.size
        return bool(self._try((2 * height, 2 * width), [layer]))

    def _run(self, size: tuple[int, int], names: list[str]) -> dict[str, Any]:
        with evaluation(self.backbone):
            return self.reader.read(self.backbone, self._blank(size), names)

    def _try(self, size: tuple[int, int], names: list[str]) -> dict[str, Any]:
        """Return outputs for a blank image of another size, or none if the network refuses it."""
        try:
            with torch.no_grad():
                return self._run(size, names)
        except _WRONG_SIZE:
            return {}

    def _blank(self, size: tuple[int, int]) -> Tensor:
        return torch.zeros(1, self.channels, *size)

    def _layouts(self, maps: dict[str, Tensor]) -> dict[str, Layout]:
        if self.reader.gives_maps:
            return dict.fromkeys(maps, "NCHW")
        height, width = self.size
        shapes = {name: [tuple(output.shape)] for name, output in maps.items()}
        for size in ((-(-height // 2), -(-width // 2)), (2 * height, 2 * width)):
            if unsure := [name for name, seen in shapes.items() if is_open(seen)]:
                for name, output in self._try(size, unsure).items():
                    shapes[name].append(tuple(output.shape))
        order = getattr(self.backbone, "output_fmt", None)  # as timm calls it
        layouts: dict[str, Layout] = {}
        for name, seen in shapes.items():
            is_conv = isinstance(self.backbone.get_submodule(name), nn.Conv2d)
            layout = find_layout(seen, self.size, None if is_conv else order)
            if layout is None:
                raise ValueError(
                    f"layer {name!r} of {self.name} gives outputs of shapes "
                    f"{' and '.join(map(str, seen))} for images of different sizes, so that none "
                    f"of its dimensions is that of the features. {_WANTED}"
                )
            layouts[name] = layout
        return layouts

    def _check_readable(self, outputs: dict[str, Any], maps: list[str]) -> None:
        """Raise ValueError if there are no maps, or if behind the last a part gives no vector."""
        names = list(outputs)
        behind = names[names.index(maps[-1]) + 1 :] if maps else names
        unread = [
            f"{name!r} gives {_described(outputs[name])}"
            for name in behind
            if list(self.backbone.get_submodule(name).parameters())
            and not (isinstance(outputs[name], Tensor) and outputs[name].ndim == 2)
        ]
        if unread or not maps:
            raise ValueError(
                f"the layers of {self.name} cannot be read: "
                f"{'; '.join(unread) or 'no part gives a map'}. {_WANTED}"
            )

    def _check_trained(self, outputs: dict[str, Any], last: str, used: set[int]) -> None:
        """Raise ValueError if most of the network has no part in its last layer; warn of less.

        Heads do not count: what gives vectors, and what timm has behind its features.
        """
        backbone: Any = self.backbone
        parameters = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
        if self.reader.gives_maps:
            with torch.enable_grad(), evaluation(self.backbone):
                features = backbone.forward_features(self._blank(self.size))
            parts = _leaves(*features) if isinstance(features, list | tuple) else _leaves(features)
            body = {name: p for name, p in parameters.items() if id(p) in parts}
        else:
            heads = tuple(
                f"{n}." for n, o in outputs.items() if isinstance(o, Tensor) and o.ndim < 3
            )
            body = {name: p for name, p in parameters.items() if not name.startswith(heads)}
        unused = {name: p for name, p in body.items() if id(p) not in used}
        if not used or not unused:  # all weights are frozen, or all are trained
            return
        message = (
            f"{', '.join(dict.fromkeys(repr(name.partition('.')[0]) for name in unused))} of "
            f"{self.name} have no part in its last layer {last!r}, so pretext tasks do not train "
            "them"
        )
        if 2 * sum(p.numel() for p in unused.values()) > sum(p.numel() for p in body.values()):
            hint = "Use another model" if self.reader.gives_maps else _WANTED
            raise ValueError(f"{message}, and they are most of it. {hint}")
        if not self.reader.gives_maps:  # of timm, it is the norm or convolution before its head
            warn(message, EncoderWarning)


def _leaves(*outputs: Any) -> set[int]:
    """Return the ``id`` of each parameter that outputs were computed from, by autograd's graph."""
    seen: set[Any] = set()
    ahead = [output.grad_fn for output in outputs if isinstance(output, Tensor)]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [earlier for earlier, _ in node.next_functions]
    return {id(node.variable) for node in seen if hasattr(node, "variable")}


def _choose_layer(layers: dict[str, tuple[int, int, int]]) -> str:
    """Choose a late layer: the last with a finer map than the output, if the second half has it."""
    names = list(layers)
    _, rows, columns = layers[names[-1]]
    for name in reversed(names[(len(names) - 1) // 2 :]):
        _, height, width = layers[name]
        if height * width > rows * columns:
            return name
    return names[max(0, len(names) - (3 if len(names) >= 8 else 2))]


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {output.ndim} dimensions"
    return f"a {type(output).__name__}"
