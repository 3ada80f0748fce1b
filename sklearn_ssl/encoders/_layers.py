"""Reading the layers of a network: which there are, and what they give.

A sequence of parts is run part by part, and stops at the one that is asked for. Other networks are
read through hooks, which are there during a call only: nothing is left on the network.
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
    """How the layers of one kind of network are read."""

    def names(self, backbone: nn.Module) -> list[str]:
        """Names of what may be layers; which are, a run shows."""

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        """What the layers of these names give, in the order in which they are reached.

        What is behind the last of them is not run.
        """


def layer_reader(backbone: nn.Module) -> LayerReader:
    """The reader that suits a network."""
    return _ChainReader() if _is_chain(backbone) else _HookReader()


def _is_chain(module: nn.Module) -> bool:
    """Whether a module does nothing but call its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


class _ChainReader:
    def names(self, backbone: nn.Module) -> list[str]:
        return list(_members(backbone))

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        _run(backbone, images, set(names), found)
        return found


def _members(chain: nn.Module, prefix: str = "") -> Iterator[str]:
    """Names of the parts of a chain in the order in which they end."""
    for name, child in chain.named_children():
        if _is_chain(child):
            yield from _members(child, f"{prefix}{name}.")
        if not _is_no_layer(child):
            yield prefix + name


def _run(
    chain: nn.Module, x: Any, wanted: set[str], found: dict[str, Any], prefix: str = ""
) -> Any:
    """Run a chain until all wanted outputs are found; chains within it as one where that does."""
    for name, child in chain.named_children():
        inside = any(other.startswith(f"{prefix}{name}.") for other in wanted - found.keys())
        if inside and _is_chain(child):
            x = _run(child, x, wanted, found, f"{prefix}{name}.")
        else:
            x = child(x)
        if prefix + name in wanted:
            found[prefix + name] = x
        if len(found) == len(wanted):
            break
    return x


class _AllReached(Exception):
    pass


class _HookReader:
    def names(self, backbone: nn.Module) -> list[str]:
        return list(_children_and_members(backbone))

    def read(self, backbone: nn.Module, images: Tensor, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        thread = get_ident()  # other threads may be in the same network

        def note(name: str, _module: nn.Module, _args: Any, output: Any) -> None:
            if get_ident() == thread and name not in found:  # of one that runs again, the first
                found[name] = output
                if len(found) == len(names):
                    raise _AllReached

        with contextlib.ExitStack() as hooks, contextlib.suppress(_AllReached):
            for name in names:
                module = backbone.get_submodule(name)
                hooks.enter_context(module.register_forward_hook(partial(note, name)))
            backbone(images)
        return found


def _children_and_members(module: nn.Module, prefix: str = "", depth: int = 0) -> Iterator[str]:
    for name, child in module.named_children():
        if _is_no_layer(child):
            continue
        yield prefix + name
        if isinstance(child, _LISTS) or (depth == 0 and _holds_stages(child)):
            yield from _children_and_members(child, f"{prefix}{name}.", depth + 1)


def _is_no_layer(module: nn.Module) -> bool:
    return isinstance(module, _NO_LAYER)


def _holds_stages(module: nn.Module) -> bool:
    """Whether a module wraps the sequence of layers, as a transformer's trunk does."""
    return any(isinstance(child, _LISTS) and len(child) > 2 for child in module.children())
