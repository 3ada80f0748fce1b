"""Pretrained weights: fetched or read from a file, made to fit, and what images they expect."""

import contextlib
import os
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sklearn_ssl._utils._storage import expanded
from sklearn_ssl._utils._warnings import warn
from sklearn_ssl.exceptions import EncoderWarning

__all__ = ["Expected", "adapt_first_conv", "downloading", "is_file", "load_weights"]

_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar"}
_INSIDE = ("state_dict", "model_state_dict", "model", "teacher", "student", "net")  # of checkpoints
_PREFIXES = ("module.", "model.", "backbone.", "encoder.", "encoder_q.", "net.", "0.")
_NAMED = 5  # of names in a message


@dataclass(frozen=True)
class Expected:
    """What pretrained weights expect of images, as their library says.

    Parameters
    ----------
    mean, std : sequence of float
        Of each color, of images in [0, 1].
    size : tuple of int
        Height and width of the images they were trained on.
    fixed_size : bool
        Whether the network takes no other size.
    """

    mean: Sequence[float]
    std: Sequence[float]
    size: tuple[int, int]
    fixed_size: bool = False

    def normalization(self, channels: int) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of so many channels: means of all for one or two, else the
        colors in turn, as :func:`adapt_first_conv` does.
        """
        if channels < len(self.mean):
            return (
                [sum(self.mean) / len(self.mean)] * channels,
                [sum(self.std) / len(self.std)] * channels,
            )
        in_turn = [channel % len(self.mean) for channel in range(channels)]
        return [self.mean[i] for i in in_turn], [self.std[i] for i in in_turn]


def is_file(weights: str | os.PathLike | None) -> bool:
    """Whether weights are a file, and not the name that a library has for them."""
    if weights is None:
        return False
    path = expanded(weights, "weights")
    named = path.suffix.lower() in _SUFFIXES or os.sep in os.fspath(weights)
    return isinstance(weights, os.PathLike) or named or path.is_file()


def load_weights(model: nn.Module, path: str | os.PathLike, heads: Collection[str] = ()) -> None:
    """Fill a network from a file of torch or safetensors, which runs no code.

    Prefixes that all names share (``module.``, ``backbone.``, ``encoder.``) are taken off. A head,
    a child of one of the names in ``heads``, may be missing. What is left over is named in
    a warning.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no file of weights, or if they are not those of this network.
    """
    wanted = model.state_dict()
    given = _without_prefix(_state_in(path), wanted)
    missing = [
        name
        for name in wanted
        if name not in given
        and name.partition(".")[0] not in heads
        and not name.endswith("num_batches_tracked")
    ]
    name = type(model).__name__
    if missing:
        raise ValueError(
            f"weights={str(path)!r} are not those of {name}: {_some(missing)} missing, "
            f"{_some([key for key in given if key not in wanted]) or 'nothing'} left over"
        )
    others = {
        key: f"{key} has shape {tuple(given[key].shape)} and not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    }
    if wrong := [text for key, text in others.items() if key.partition(".")[0] not in heads]:
        raise ValueError(f"weights={str(path)!r} do not fit {name}: {_some(wrong)}")
    left = [key for key in given if key not in wanted and key.partition(".")[0] not in heads]
    if left:
        warn(f"weights={str(path)!r}: {_some(left)} left over, not in {name}", EncoderWarning)
    usable = {key: given[key] for key in wanted if key in given and key not in others}
    model.load_state_dict(usable, strict=False)


def _state_in(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    found: Any
    file = expanded(path, "weights")
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OSError(f"weights={str(path)!r} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights={str(path)!r} hold more than tensors, and reading them would run code; save "
            "the network's state_dict() instead"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"weights={str(path)!r} are no file of weights: {error}") from error
    while isinstance(found, Mapping):
        if inner := [found[key] for key in _INSIDE if isinstance(found.get(key), Mapping)]:
            found = inner[0]
            continue
        if state := {key: value for key, value in found.items() if isinstance(value, Tensor)}:
            return state
        break
    raise ValueError(f"weights={str(path)!r} hold no state_dict, a dictionary of tensors")


def _without_prefix(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries under the prefix, or none, below which most names are those of the network."""
    best, tried, left = given, {""}, [""]
    while left:
        prefix = left.pop()
        state = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        if len(state.keys() & wanted.keys()) > len(best.keys() & wanted.keys()):
            best = state
        for more in _PREFIXES:
            longer = prefix + more
            if longer not in tried and any(key.startswith(longer) for key in given):
                tried.add(longer)
                left.append(longer)
    return best


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" * (len(names) > _NAMED))


@contextlib.contextmanager
def downloading(encoder: str, folder: str) -> Iterator[None]:
    """Say of a failed download which weights were wanted, and where they may be put by hand."""
    try:
        yield
    except OSError as error:  # the network's errors and those of files are of this kind
        raise OSError(
            f"the weights of encoder={encoder!r} are not in {folder} and could not be downloaded: "
            f"{error}. Connect to the internet once, or copy this folder from a machine that has "
            "them; weights=None starts from random weights"
        ) from error


def adapt_first_conv(model: nn.Module, channels: int) -> None:
    """Make a model for RGB take ``channels`` channels, keeping what its first layer has learned.

    One or two channels share the sum of the three filters; more than three take them in turn, each
    divided by how often it is used. An image of equal channels gets the response of a gray one.
    """
    conv: Any
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == channels:
        return
    fresh = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        if channels < conv.in_channels:
            weight = conv.weight.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
        else:
            color = torch.arange(channels) % conv.in_channels
            copies = (color[:, None] == color).sum(1)
            weight = conv.weight[:, color] / copies[:, None, None]
        fresh.weight.copy_(weight)
        if conv.bias is not None and fresh.bias is not None:
            fresh.bias.copy_(conv.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)
