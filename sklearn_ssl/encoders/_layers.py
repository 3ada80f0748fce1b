"""Reading the layers of a network: which there are, and what they give.

A sequence of parts is run part by part, and a model of timm gives its layers itself; both stop at
the layer that is asked for, and can be exported. Other networks are read through hooks, which are
there during a call only: nothing is left on the network.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from threading import get_ident
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["LayerReader", "layer_reader"]

_NO_LAYER = (nn.Identity, nn.Dropout)
_LISTS = (nn.Sequential, nn.ModuleList)


class LayerReader(Protocol):
    """Protocol for reading the layers of one kind of network.

    Attributes
    ----------
    gives_maps : bool
        Whether all layers are known to be maps (n, d, gh, gw).
    """

    gives_maps: bool

    def names(self, backbone: nn.Module) -> list[str]:
        """Return the names of parts that may be layers; a run shows which of them are."""

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        """Run the network, and return the outputs of these layers in the order they are reached.

        Parts behind the last of them are not run.
        """


def layer_reader(backbone: nn.Module) -> LayerReader:
    """Return the reader that suits a network."""
    if _is_chain(backbone):
        return _ChainReader()
    if hasattr(backbone, "forward_intermediates") and hasattr(backbone, "feature_info"):
        return _TimmReader()
    return _HookReader()


def _is_chain(module: nn.Module) -> bool:
    """Return whether a module does nothing but call its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _as_it_is_now(output: Any) -> Any:
    """Copy an output that an activation could change in place afterward."""
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
        """Run a chain until all is found; parts in which nothing is wanted are run as one."""
        for name, child in chain._modules.items():  # named_children leaves repeated ones out
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
    """Yield names of a chain's parts, and of theirs if they are chains, in order of their ends."""
    for name, child in chain._modules.items():
        if _is_chain(child):
            yield from _links(child, f"{prefix}{name}.")
        if not isinstance(child, _NO_LAYER):
            yield prefix + name


class _TimmReader:
    """Reader of timm's models: timm knows which tokens are positions, and in which order."""

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
                "layer; an encoder has one. Use another model"
            )
        return {name: i for i, name in enumerate(names) if name}  # what is no part has no name


class _AllReached(Exception):
    pass


class _HookReader:
    gives_maps = False

    def names(self, backbone: nn.Module) -> list[str]:
        return list(_children_and_members(backbone))

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        wanted = set(names)
        thread = get_ident()  # other threads may be in the same network

        def note(name: str, _module: nn.Module, _args: Any, output: Any) -> None:
            if get_ident() != thread or name in found:  # of one that runs again, the first
                return
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
