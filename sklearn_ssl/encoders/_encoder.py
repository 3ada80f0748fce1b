"""Encoders: a backbone with named layers, each giving a feature map that can be pooled."""

import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl.nn import make_tiny_maps_safe

__all__ = ["Encoder"]


_NO_LAYER = (nn.Identity, nn.Dropout)


_SEQUENCES = (nn.Sequential, nn.ModuleList)


# outputs that the running forward pass of this thread is to note; it ends with the last one
_wanted: contextvars.ContextVar[dict[str, Tensor | None]] = contextvars.ContextVar("wanted")


class _AllReached(Exception):
    pass


def _note_output(name: str, _module: nn.Module, _args, output) -> None:
    wanted = _wanted.get({})
    if name in wanted and wanted[name] is None:  # of a layer that runs again, the first pass
        wanted[name] = output
        if all(output is not None for output in wanted.values()):
            raise _AllReached


class Encoder(nn.Module):
    """Images in [0, 1] to the feature map of a named layer; what is behind that layer is not run.

    A backbone that takes images of one size only, as ImageNet's transformers, sees all others
    resized to it; images that are too small for a backbone are enlarged.

    Parameters
    ----------
    backbone : nn.Module
        Takes images (n, c, h, w). Its named children, and the members of its ``nn.Sequential`` and
        ``nn.ModuleList`` children, are the layers, where they give a tensor of at least three
        dimensions: maps (n, d, gh, gw) or tokens (n, t, d).
    image_shape : tuple of int
        Height, width and channels of the images.
    mean, std : sequence of float
        Per channel, of images in [0, 1]; the backbone sees standardized images.

    Attributes
    ----------
    layers : dict of str to tuple of int
        Shape (d, gh, gw) of each layer's map for images of ``image_shape``, in the order in which
        the layers are reached. The last one is what pretext tasks train.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        image_shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        make_tiny_maps_safe(backbone)
        self.backbone = backbone
        self.image_shape = image_shape
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self._channels_last: set[str] = set()  # layers whose maps are (n, gh, gw, d)
        self.layers = self._find_layers()
        self.smallest = self._find_smallest()
        self.takes_one_size = self.smallest == image_shape[:2] and max(self.smallest) > 1

    @property
    def last_layer(self) -> str:
        """What pretext tasks train."""
        return next(reversed(self.layers))

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Shape (d, gh, gw) of the last layer's map, which pretext tasks train."""
        return self.layers[self.last_layer]

    @property
    def default_layer(self) -> str:
        """The last layer with a finer map than the output, or a late one where none is finer."""
        _, rows, columns = self.out_shape
        finer = [name for name, (_, h, w) in self.layers.items() if h * w > rows * columns]
        return finer[-1] if finer else list(self.layers)[max(0, len(self.layers) - 3)]

    def standardize(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to zero mean and unit variance per channel."""
        return (images - self.mean) / self.std

    def unstandardize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`standardize`."""
        return images * self.std + self.mean

    def forward(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Feature map (n, d, gh, gw) of ``layer``, by default the last one."""
        return self.maps(images, layer or self.last_layer)[0]

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

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Feature maps of several layers in one pass."""
        images = self.prepare(images)
        outputs: dict[str, Tensor | None] = dict.fromkeys(layers)
        token = _wanted.set(outputs)
        try:
            self.backbone(images)
        except _AllReached:
            return [self._as_map(outputs[name], images.shape[-2:], name) for name in layers]
        finally:
            _wanted.reset(token)
        missed = [repr(name) for name, output in outputs.items() if output is None]
        raise ValueError(f"the backbone's forward pass never reached layer {', '.join(missed)}")

    @torch.no_grad()
    def shape_of(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Shape (d, gh, gw) of the last layer's map for images of another size."""
        training = self.training
        _, d, rows, columns = self.eval()(torch.zeros(1, self.image_shape[2], *size)).shape
        self.train(training)
        return d, rows, columns

    def embed(self, images: Tensor) -> Tensor:
        """The last layer's map averaged over positions, (n, d): what heads are put on."""
        return self(images).mean((2, 3))

    def _as_map(self, output: Any, size: Sequence[int], layer: str) -> Tensor:
        if output.ndim == 4:
            return output.permute(0, 3, 1, 2) if layer in self._channels_last else output
        prefix = getattr(self.backbone, "num_prefix_tokens", None)
        height, width = size
        rows, columns, extra = _token_grid(output.shape[1], height, width, prefix)
        return output[:, extra:].transpose(1, 2).unflatten(2, (rows, columns))

    def _find_layers(self) -> dict[str, tuple[int, int, int]]:
        """Run one blank image, note the shapes, and leave a hook at each layer."""
        height, width, _ = self.image_shape
        found: dict[str, tuple[int, int, int]] = {}

        def note(name: str, module: nn.Module, _args, output) -> None:
            if isinstance(output, Tensor) and output.ndim in (3, 4):
                order = getattr(module, "output_fmt", order_of_all)
                if order == "NHWC" and not isinstance(module, nn.Conv2d):
                    self._channels_last.add(name)
                _, d, rows, columns = self._as_map(output, (height, width), name).shape
                found.setdefault(name, (d, rows, columns))  # a pass ends at the first call

        order_of_all = getattr(self.backbone, "output_fmt", "NCHW")  # as timm calls it
        names = list(_layer_names(self.backbone))
        hooks = [
            self.backbone.get_submodule(name).register_forward_hook(functools.partial(note, name))
            for name in names
        ]
        try:
            self._run_blank(height, width)
        finally:
            for hook in hooks:
                hook.remove()
        if not found:
            raise ValueError(
                f"no layer of {type(self.backbone).__name__} gives a tensor of shape (n, d, h, w) "
                "or (n, tokens, d); an encoder needs named children that do"
            )
        for name in found:
            self.backbone.get_submodule(name).register_forward_hook(
                functools.partial(_note_output, name)
            )
        return found

    @torch.no_grad()
    def _run_blank(self, height: int, width: int) -> None:
        training = self.backbone.training
        self.backbone.eval()
        try:
            self.backbone(torch.zeros(1, self.image_shape[2], height, width))
        finally:
            self.backbone.train(training)

    def _find_smallest(self) -> tuple[int, int]:
        """The smallest size that the backbone takes, of an eighth, a quarter, half and all."""
        smallest = self.image_shape[:2]
        for share in (2, 4, 8):
            height, width = (-(-side // share) for side in self.image_shape[:2])
            try:
                self._run_blank(height, width)
            except (RuntimeError, AssertionError, ValueError):
                break
            smallest = height, width
        return smallest


def _layer_names(module: nn.Module, prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, child in module.named_children():
        if isinstance(child, _NO_LAYER):
            continue
        yield prefix + name
        if isinstance(child, _SEQUENCES) or (depth == 0 and _holds_stages(child)):
            yield from _layer_names(child, f"{prefix}{name}.", depth + 1)


def _holds_stages(module: nn.Module) -> bool:
    """Whether a module wraps the sequence of layers, as a transformer's trunk does."""
    return any(isinstance(child, _SEQUENCES) and len(child) > 2 for child in module.children())


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
