"""Encoders: networks whose layers are read as feature maps, and pooling of these maps."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._torch import evaluation
from sklearn_ssl.exceptions import EncoderWarning
from sklearn_ssl.nn import ChannelScaling

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]  # timm's names; L is the axis of tokens


def find_layout(
    shapes: Sequence[Sequence[int]], size: tuple[int, int], declared: str | None = None
) -> Layout | None:
    """Find the layout of a layer whose outputs have these shapes for images of several sizes.

    The number of features is the same for images of any size; the number of positions is not.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Output shapes, the first for images of ``size``.
    size : tuple of int
        Height and width.
    declared : str, optional
        Layout that the network declares, used if the shapes are ambiguous.

    Returns
    -------
    str or None
        None if no axis of the output can hold the features.
    """
    first = shapes[0]
    second_changes, last_changes = (len({shape[dim] for shape in shapes}) > 1 for dim in (1, -1))
    if second_changes and last_changes:
        return None
    if len(first) == 3:
        return "NCL" if last_changes else "NLC"
    if second_changes or last_changes:
        return "NHWC" if second_changes else "NCHW"
    if declared == "NHWC":
        return "NHWC"
    square = size[0] == size[1]  # whose maps are square, too
    return "NHWC" if square and first[1] == first[2] != first[3] else "NCHW"


def to_map(
    output: Tensor, layout: Layout, size: Sequence[int], prefix: int | None = None
) -> Tensor:
    """Convert a layer's output for images of ``size`` to maps (n, d, gh, gw).

    ``prefix`` is the number of tokens before the patch tokens, if known.
    """
    if layout == "NCHW":
        return output
    if layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if layout == "NLC":
        output = output.transpose(1, 2)
    rows, columns, extra = _token_grid(output.shape[2], size[0], size[1], prefix)
    return output[:, :, extra:].unflatten(2, (rows, columns))


def _token_grid(
    tokens: int, height: int, width: int, prefix: int | None = None
) -> tuple[int, int, int]:
    """Return rows and columns of the grid of square patches, and the number of prefix tokens.

    Tokens that fit no grid form a single row.
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


_NO_LAYER = (nn.Identity, nn.Dropout)
_LISTS = (nn.Sequential, nn.ModuleList)


class LayerReader(Protocol):
    """Protocol for reading the layers of one kind of network.

    Attributes
    ----------
    gives_maps : bool
        True if all layers are known to be maps (n, d, gh, gw).
    """

    gives_maps: bool

    def names(self, backbone: nn.Module) -> list[str]:
        """Return the names of parts that may be layers; a forward pass shows which are."""

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        """Run the network and return the outputs of these layers in the order they are reached.

        Parts after the last of them are not run.
        """


def layer_reader(backbone: nn.Module) -> LayerReader:
    """Return the reader that suits a network."""
    if _is_chain(backbone):
        return _ChainReader()
    if hasattr(backbone, "forward_intermediates") and hasattr(backbone, "feature_info"):
        return _TimmReader()
    return _HookReader()


def _is_chain(module: nn.Module) -> bool:
    """Return whether a module only calls its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _as_it_is_now(output: Any) -> Any:
    """Copy an output that a later in-place activation could change."""
    return output.clone() if isinstance(output, Tensor) else output


class _ChainReader:
    gives_maps = False

    def names(self, backbone: nn.Module) -> list[str]:
        return list(_links(backbone))

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._run(backbone, images, "", set(names), found)
        return found

    def _run(self, chain: Any, x: Any, prefix: str, wanted: set[str], found: dict[str, Any]) -> Any:
        """Run a chain until all wanted outputs are found; parts without any are run as one."""
        for name, child in chain._modules.items():  # named_children skips repeated modules
            path = prefix + name
            if _is_chain(child) and any(w.startswith(f"{path}.") for w in wanted - found.keys()):
                x = self._run(child, x, f"{path}.", wanted, found)
            else:
                x = child(x)
            if path in wanted:
                is_last = len(found) == len(wanted) - 1
                found[path] = x if is_last else _as_it_is_now(x)
            if len(found) == len(wanted):
                break
        return x


def _links(chain: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of a chain's parts and nested parts, in the order in which they finish."""
    for name, child in chain._modules.items():
        if _is_chain(child):
            yield from _links(child, f"{prefix}{name}.")
        if not isinstance(child, _NO_LAYER):
            yield prefix + name


class _TimmReader:
    """Reader for timm models; timm knows which tokens are positions, and their order."""

    gives_maps = True

    def names(self, backbone: Any) -> list[str]:
        return list(self._indices(backbone))

    def read(self, backbone: Any, images: Tensor, names: list[str]) -> dict[str, Any]:
        known = self._indices(backbone)
        wanted = sorted((known[name], name) for name in set(names) if name in known)
        if not wanted:
            return {}
        maps = backbone.forward_intermediates(
            images,
            indices=[index for index, _ in wanted],
            stop_early=True,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        return {name: found for (_, name), found in zip(wanted, maps, strict=True)}

    def _indices(self, backbone: Any) -> dict[str, int]:
        names = [info["module"] for info in backbone.feature_info]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{type(backbone).__name__} has several branches, with more than one map for each "
                "layer, but an encoder needs one map per layer. Use another model"
            )
        # entries that are not modules have no name
        return {name: i for i, name in enumerate(names) if name}


class _AllReached(Exception):
    pass


class _HookReader:
    gives_maps = False

    def names(self, backbone: nn.Module) -> list[str]:
        return list(_children_and_members(backbone))

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        wanted = set(names)
        thread = get_ident()  # other threads may run the same network

        def note(name: str, _module: nn.Module, _args: Any, output: Any) -> None:
            if get_ident() != thread or name in found:  # of repeated calls, the first counts
                return
            output = getattr(output, "last_hidden_state", output)  # as in Hugging Face transformers
            found[name] = _as_it_is_now(output)
            if len(found) == len(wanted):
                raise _AllReached

        with contextlib.ExitStack() as hooks, contextlib.suppress(_AllReached):
            for name in wanted:
                module = backbone.get_submodule(name)
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
            backbone(images)
        return found


def _children_and_members(module: nn.Module, prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, child in module.named_children():
        if isinstance(child, _NO_LAYER):
            continue
        yield prefix + name
        if isinstance(child, _LISTS) or (depth == 0 and _holds_stages(child)):
            yield from _children_and_members(child, f"{prefix}{name}.", depth + 1)


def _holds_stages(module: nn.Module) -> bool:
    """Return whether a module wraps the sequence of layers, as a transformer's trunk does."""
    return any(isinstance(child, _LISTS) and len(child) > 2 for child in module.children())


_WANTED = (
    "The parts of an encoder, named children of a module, must return a tensor (n, d, h, w) or "
    "(n, tokens, d); wrap others in a module that does"
)
_WRONG_SIZE = (RuntimeError, AssertionError, IndexError, ValueError)  # raised by networks for it


class Probe:
    """Inspection of a network that is to become an encoder.

    Parameters
    ----------
    backbone : nn.Module
    reader : LayerReader
    image_shape : tuple of int
        Height, width and channels.

    Raises
    ------
    ValueError
        If the network's layers cannot be read, or its last layer does not depend on most of it.
    """

    def __init__(self, backbone: nn.Module, reader: LayerReader, image_shape: tuple[int, int, int]):
        self.backbone = backbone
        self.reader = reader
        self.size, self.channels = image_shape[:2], image_shape[2]
        self.name = type(backbone).__name__

    def layers(self) -> tuple[dict[str, tuple[int, int, int]], dict[str, Layout], str]:
        """Return the shape and layout of each layer, and the name of the default layer."""
        with torch.enable_grad():  # to trace what layers are computed from
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
        """Return the smallest size that the network accepts: 1/8, 1/4, 1/2 or all of its size."""
        smallest = self.size
        for share in (2, 4, 8):
            height, width = (-(-side // share) for side in self.size)
            if not self._try((height, width), [layer]):
                break
            smallest = height, width
        return smallest

    def takes_larger(self, layer: str) -> bool:
        """Return whether the network accepts images of twice the size."""
        height, width = self.size
        return bool(self._try((2 * height, 2 * width), [layer]))

    def _run(self, size: tuple[int, int], names: list[str]) -> dict[str, Any]:
        with evaluation(self.backbone):
            return self.reader.read(self.backbone, self._blank(size), names)

    def _try(self, size: tuple[int, int], names: list[str]) -> dict[str, Any]:
        """Return outputs for a blank image of this size; none if the network rejects it."""
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
            # layers whose first and last axis were the same for all sizes so far
            unsure = [n for n, seen in shapes.items() if len({(s[1], s[-1]) for s in seen}) == 1]
            for name, output in self._try(size, unsure).items() if unsure else ():
                shapes[name].append(tuple(output.shape))
        order = getattr(self.backbone, "output_fmt", None)  # timm's name for the layout
        layouts: dict[str, Layout] = {}
        for name, seen in shapes.items():
            is_conv = isinstance(self.backbone.get_submodule(name), nn.Conv2d)
            layout = find_layout(seen, self.size, None if is_conv else order)
            if layout is None:
                raise ValueError(
                    f"layer {name!r} of {self.name} returns outputs of shapes "
                    f"{' and '.join(map(str, seen))} for images of different sizes, so no axis "
                    f"can be the features. {_WANTED}"
                )
            layouts[name] = layout
        return layouts

    def _check_readable(self, outputs: dict[str, Any], maps: list[str]) -> None:
        """Raise ValueError if there are no maps, or a part after the last returns no vector."""
        names = list(outputs)
        behind = names[names.index(maps[-1]) + 1 :] if maps else names
        unread = [
            f"{name!r} returns {_described(outputs[name])}"
            for name in behind
            if list(self.backbone.get_submodule(name).parameters())
            and not (isinstance(outputs[name], Tensor) and outputs[name].ndim == 2)
        ]
        if unread or not maps:
            raise ValueError(
                f"the layers of {self.name} cannot be read: "
                f"{'; '.join(unread) or 'no part returns a map'}. {_WANTED}"
            )

    def _check_trained(self, outputs: dict[str, Any], last: str, used: set[int]) -> None:
        """Raise ValueError if the last layer does not use most of the network; warn of less.

        Heads do not count: parts that return vectors, and timm's parts after the features.
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
        n_unused, n_weights = (sum(p.numel() for p in some.values()) for some in (unused, body))
        is_most = 2 * n_unused > n_weights
        if not is_most:  # parts in use may hold another vector, such as a mask token
            in_use = {name.rpartition(".")[0] for name in body.keys() - unused.keys()} - {""}
            unused = {
                n: p
                for n, p in unused.items()
                if p.squeeze().ndim > 1 or n.rpartition(".")[0] not in in_use
            }
        if not used or not unused:  # all weights are frozen, or all are trained
            return
        message = (
            f"the last layer {last!r} of {self.name} does not depend on "
            f"{', '.join(dict.fromkeys(repr(name.partition('.')[0]) for name in unused))}, which "
            "pretext tasks therefore do not train"
        )
        if is_most:
            hint = "Use another model" if self.reader.gives_maps else _WANTED
            raise ValueError(f"{message}; this is most of the network. {hint}")
        if not self.reader.gives_maps:  # in timm, it is the norm or convolution before the head
            warn(message, EncoderWarning)


def _leaves(*outputs: Any) -> set[int]:
    """Return the ``id`` of each parameter that outputs depend on, from autograd's graph."""
    seen: set[Any] = set()
    ahead = [output.grad_fn for output in outputs if isinstance(output, Tensor)]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [earlier for earlier, _ in node.next_functions]
    return {id(node.variable) for node in seen if hasattr(node, "variable")}


def _choose_layer(layers: dict[str, tuple[int, int, int]]) -> str:
    """Choose a late layer: in the second half, the last with a finer map than the output."""
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


Pool = str | int | tuple[int, int] | None
FeatureSpec = list[tuple[str, Pool]]  # layers, each with how its map is pooled


def pool_features(features: Tensor, pool: Pool) -> Tensor:
    """Pool feature maps (n, d, gh, gw) to vectors.

    ``pool`` is ``"avg"``, ``"max"``, the side of a grid that is clipped to the map's sides, the
    rows and columns of a grid, or None for all values.
    """
    if pool == "avg":
        return features.mean((2, 3))
    if pool == "max":
        return features.amax((2, 3))
    if pool is not None:
        grid = fixed_pool(features.shape[1:], pool)
        if features.device.type == "mps":  # pools to divisors of the map's sides only
            features = features.cpu()
        features = F.adaptive_avg_pool2d(features, grid)
    return features.flatten(1)


def fixed_pool(map_shape: Sequence[int], pool: Pool) -> Any:
    """Return the ``pool`` that yields as many features for any map size as for (d, gh, gw)."""
    if isinstance(pool, (str, tuple)):
        return pool
    rows, columns = map_shape[1:]
    return (rows, columns) if pool is None else (min(int(pool), rows), min(int(pool), columns))


def pooled_width(map_shape: tuple[int, int, int], pool: Pool) -> int:
    """Return the number of features of a pooled map (d, gh, gw)."""
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
        the layers are reached. Pretext tasks train the last one.
    default_layer : str
        Layer whose features a learner returns by default.
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

    def features(self, images: Tensor, spec: FeatureSpec, mirror: bool = False) -> Tensor:
        """Compute the features (n, d) of layers with their pooling, concatenated, in one pass.

        With ``mirror``, features are averaged over an image and its mirror image.
        """
        if mirror:
            return (self._features(images, spec) + self._features(images.flip(3), spec)) / 2
        return self._features(images, spec)

    def _features(self, images: Tensor, spec: FeatureSpec) -> Tensor:
        layers = list(dict.fromkeys(layer for layer, _ in spec))
        maps = dict(zip(layers, self.maps(images, *layers), strict=True))
        parts = [pool_features(maps[layer].float(), pool) for layer, pool in spec]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Average the last layer's map over positions, to vectors (n, d) for heads."""
        return self(images).mean((2, 3))

    @torch.no_grad()
    def shape_of(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape (d, gh, gw) of the last layer's map for images of another size."""
        with evaluation(self):
            _, d, rows, columns = self(torch.zeros(1, self.image_shape[2], *size)).shape
        return d, rows, columns


class BackboneEncoder(Encoder):
    """Encoder that reads the layers of any network.

    For networks that accept images of one size only, such as ImageNet transformers, other images
    are resized to it; images that are too small for a network are enlarged.

    Parameters
    ----------
    backbone : nn.Module
        Network for images (n, c, h, w). Its layers are its named children, and the members of its
        ``nn.Sequential`` and ``nn.ModuleList`` children, that return a tensor of three or four
        dimensions: maps (n, d, gh, gw) or (n, gh, gw, d), or tokens (n, t, d) or (n, d, t). In
        timm models, the layers are those of ``feature_info``.
    image_shape : tuple of int
        Height, width and channels of the images.
    mean, std : sequence of float
        Mean and standard deviation of each channel in [0, 1], to standardize the backbone's input.
    input_size : tuple of int, optional
        Height and width to which images of ``image_shape`` are resized for the backbone; views of
        other sizes are resized by the same factors.

    Attributes
    ----------
    standardize : ChannelScaling
        Module that maps images in [0, 1] to zero mean and unit variance per channel;
        ``standardize.inverse`` maps them back.
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

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute feature maps (n, d, gh, gw) of several layers in one pass."""
        images = self.prepare(images)
        weight = next(self.backbone.parameters(), images)
        if weight.dtype in (torch.float16, torch.bfloat16):  # a module converted by .half()
            images = images.to(weight.dtype)
        outputs = self.reader.read(self.backbone, images, list(layers))
        if missed := [repr(name) for name in layers if name not in outputs]:
            raise ValueError(f"the backbone's forward pass never reached layer {', '.join(missed)}")
        return [self._as_map(outputs[name], images.shape[-2:], name) for name in layers]

    def prepare(self, images: Tensor) -> Tensor:
        """Standardize images for the backbone and resize them to a size that it accepts."""
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
        """Return whether the last layer outputs tokens, even if timm converts them to maps."""
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
