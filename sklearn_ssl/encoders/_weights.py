"""Pretrained weights: fetched or read from a file, made to fit, and what images they expect."""

import contextlib
import os
import pickle
import re
import threading
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._storage import DAMAGED, expanded
from sklearn_ssl.exceptions import EncoderWarning

__all__ = ["Expected", "adapt_first_conv", "downloading", "is_file", "load_weights"]

_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar"}
_AVERAGES = {"ema", "teacher"}
_NAMED = 5  # of names in a message


@dataclass(frozen=True)
class Expected:
    """Properties of images that pretrained weights expect, as their library says.

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
        """Return the mean and standard deviation of each of ``channels`` channels.

        One or two channels have the mean over colors, others the colors in turn, as in
        :func:`adapt_first_conv`.
        """
        if channels < len(self.mean):
            return (
                [sum(self.mean) / len(self.mean)] * channels,
                [sum(self.std) / len(self.std)] * channels,
            )
        in_turn = [channel % len(self.mean) for channel in range(channels)]
        return [self.mean[i] for i in in_turn], [self.std[i] for i in in_turn]


def is_file(weights: str | os.PathLike | None) -> bool:
    """Return whether weights are a file, and not the name that a library has for them."""
    if weights is None:
        return False
    path = expanded(weights, "weights")
    named = path.suffix.lower() in _SUFFIXES or os.sep in os.fspath(weights)
    return isinstance(weights, os.PathLike) or named or path.is_file()


def load_weights(model: nn.Module, path: str | os.PathLike, heads: Collection[str] = ()) -> None:
    """Fill a network from a file of torch or safetensors, which runs no code.

    Its tensors may lie in dictionaries, and below any prefix (``state_dict``, ``module.``,
    ``teacher.backbone.``), under their names or, as ``nn.Sequential(*model.children())`` has them,
    under numbers. A head, a child of one of the names in ``heads``, may be missing. What is left
    over is named in a warning.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no file of weights, or if they are not those of this network.
    """
    wanted = model.state_dict()
    tensors = _tensors_in(path)
    prefix, given = _best_match(tensors, wanted, [name for name, _ in model.named_children()])
    missing = [
        name
        for name in wanted
        if name not in given
        and name.partition(".")[0] not in heads
        and not name.endswith("num_batches_tracked")
    ]
    name, left = type(model).__name__, [key for key in given if key not in wanted]
    if missing:
        below = f" below {prefix!r}" if prefix else ""
        there = f"{_some(left or list(given))} {'left over' if left else 'there'}"
        raise ValueError(
            f"weights={str(path)!r} are not those of {name}: {_some(missing)} missing{below}, "
            f"{there}"
        )
    others = {
        key: f"{key} has shape {tuple(given[key].shape)} and not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    }
    if wrong := [text for key, text in others.items() if key.partition(".")[0] not in heads]:
        raise ValueError(f"weights={str(path)!r} do not fit {name}: {_some(wrong)}")
    if left := [key for key in left if key.partition(".")[0] not in heads]:
        warn(f"weights={str(path)!r}: {_some(left)} left over, not in {name}", EncoderWarning)
    usable = {key: given[key] for key in wanted if key in given and key not in others}
    model.load_state_dict(usable, strict=False)


def _tensors_in(path: str | os.PathLike) -> dict[str, Tensor]:
    """Return all tensors of a file, each under the keys that lead to it, joined by dots."""
    found: Any
    unknown: list[str] = []
    file = expanded(path, "weights")
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load

            found = load(file.read_bytes())  # which is not mapped, as load_file has it
        else:
            found, unknown = _unpickled(file)
    except OSError as error:
        raise OSError(f"weights={str(path)!r} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"weights={str(path)!r} hold {named[1] if named else 'more than tensors'}, and reading "
            "that would run code; save the network's state_dict() instead"
        ) from error
    except (SafetensorError, zipfile.BadZipFile, EOFError, *DAMAGED) as error:
        why = str(error) or "it is empty, or cut off"
        raise ValueError(f"weights={str(path)!r} are no file of weights: {why}") from error
    tensors: dict[str, Tensor] = {}
    seen, ahead = set(), [("", found)]  # a dictionary may be there twice, or hold itself
    while ahead:
        prefix, values = ahead.pop(0)
        if not isinstance(values, Mapping) or id(values) in seen:
            continue
        seen.add(id(values))
        for key, value in values.items():
            if isinstance(value, Tensor) and value.layout == torch.strided:
                tensors[f"{prefix}{key}"] = value
            else:
                ahead.append((f"{prefix}{key}.", value))
    if not tensors:
        held = f", but {_some(unknown)}, and reading that would run code" if unknown else ""
        names = [*map(str, found)] if isinstance(found, Mapping) else []
        keys = f"; its keys are {_some(names)}" if names else ""
        raise ValueError(
            f"weights={str(path)!r} hold no state_dict, a dictionary of tensors{held}{keys}; save "
            "the network's state_dict()"
        )
    return tensors


# Pickles. A stand-in takes the place of whatever is neither a tensor nor a plain value, so that no
# code but torch's is run: settings of a training (argparse.Namespace, omegaconf), NumPy's numbers.


class _Ignored:
    """Stand-in for an object whose state may be anything."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Emptied:
    """Stand-in for what may be a kind of dictionary, and is one afterward."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


_OFTEN = (  # in files of the old format, which cannot be asked what is in them
    *("argparse.Namespace", "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
)
_allowing = threading.Lock()  # torch's list is that of the process


def _unpickled(path: str | os.PathLike) -> tuple[Any, list[str]]:
    """Read a file of ``torch.save``; return its content, and the names that have stand-ins."""
    names = list(_OFTEN)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > os.path.getsize(path):
            raise ValueError("it is compressed, which torch.save does not do")
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stand_ins: list[Any] = [
        (_Ignored if name.startswith("numpy.") else _Emptied, name) for name in names
    ]
    with _allowing, torch.serialization.safe_globals(stand_ins):
        found = torch.load(path, map_location="cpu", weights_only=True)
    return found, names


def _best_match(
    tensors: dict[str, Tensor], wanted: Collection[str], children: Sequence[str]
) -> tuple[str, dict[str, Tensor]]:
    """Find the prefix below which most names are those of a network, and what is there by name.

    Of several, an average of weights (``state_dict_ema``, DINO's teacher) comes first.
    """
    by_number = dict(zip(map(str, range(len(children))), children, strict=True))

    def named(key: str, numbered: bool) -> str:
        first, dot, rest = key.partition(".")
        return by_number.get(first, first) + dot + rest if numbered else key

    matches: Counter[tuple[str, bool]] = Counter()
    for key in tensors:
        parts = key.split(".")
        for start in range(len(parts)):
            prefix, name = ".".join([*parts[:start], ""]), ".".join(parts[start:])
            for numbered in (False, True):
                matches[prefix, numbered] += named(name, numbered) in wanted

    def rank(match: tuple[str, bool]) -> tuple[int, bool, bool]:
        return matches[match], bool(_AVERAGES & set(re.split(r"[._]", match[0]))), not match[1]

    prefix, numbered = max(matches, key=rank)
    if not matches[prefix, numbered]:
        return "", tensors
    return prefix, {
        named(key.removeprefix(prefix), numbered): value
        for key, value in tensors.items()
        if key.startswith(prefix)
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" * (len(names) > _NAMED))


@contextlib.contextmanager
def downloading(encoder: str, folder: str) -> Iterator[None]:
    """Make a failed download say which weights were wanted, and where to put them by hand."""
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
