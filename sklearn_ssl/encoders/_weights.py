"""Pretrained weights: download, loading from files, adaptation, and the images they expect."""

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

_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar"}
_AVERAGES = {"ema", "teacher"}
_NAMED = 5  # names listed in a message


@dataclass(frozen=True)
class Expected:
    """Properties of images that pretrained weights expect, according to their library.

    Parameters
    ----------
    mean, std : sequence of float
        Mean and standard deviation of each color, for images in [0, 1].
    size : tuple of int
        Height and width of the images they were trained on.
    fixed_size : bool
        True if the network accepts no other size.
    """

    mean: Sequence[float]
    std: Sequence[float]
    size: tuple[int, int]
    fixed_size: bool = False

    def normalization(self, channels: int) -> tuple[list[float], list[float]]:
        """Return the mean and standard deviation of each of ``channels`` channels.

        One or two channels use the mean over colors; more channels use the colors in turn, as in
        :func:`adapt_first_conv`.
        """

        def each(values: Sequence[float]) -> list[float]:
            if channels < len(values):
                return [sum(values) / len(values)] * channels
            return [values[channel % len(values)] for channel in range(channels)]

        return each(self.mean), each(self.std)


def is_file(weights: str | os.PathLike | None) -> bool:
    """Return whether weights are a file rather than a library's name for them."""
    if weights is None:
        return False
    path = expanded(weights, "weights")
    named = path.suffix.lower() in _SUFFIXES or os.sep in os.fspath(weights)
    return isinstance(weights, os.PathLike) or named or path.is_file()


def load_weights(model: nn.Module, path: str | os.PathLike, heads: Collection[str] = ()) -> None:
    """Load a network's weights from a torch or safetensors file, without running code from it.

    Tensors may be in nested dictionaries, below any prefix (``state_dict``, ``module.``,
    ``teacher.backbone.``), by name or, as in ``nn.Sequential(*model.children())``, by number.
    Heads, which are the children named in ``heads``, may be missing. A warning names unused
    weights.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a file of weights, or they do not belong to this network.
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
        there = f"{_some(left or list(given))} {'not used' if left else 'found'}"
        raise ValueError(
            f"weights={str(path)!r} are not those of {name}: {_some(missing)} missing{below}; "
            f"{there}"
        )
    others = {
        key: f"{key} has shape {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    }
    if wrong := [text for key, text in others.items() if key.partition(".")[0] not in heads]:
        raise ValueError(f"weights={str(path)!r} do not fit {name}: {_some(wrong)}")
    if left := [key for key in left if key.partition(".")[0] not in heads]:
        warn(f"weights={str(path)!r}: {name} has no {_some(left)}; ignored", EncoderWarning)
    usable = {key: given[key] for key in wanted if key in given and key not in others}
    model.load_state_dict(usable, strict=False)


def _tensors_in(path: str | os.PathLike) -> dict[str, Tensor]:
    """Return all tensors in a file, each under the dot-joined keys that lead to it."""
    found: Any
    unknown: list[str] = []
    file = expanded(path, "weights")
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load

            found = load(file.read_bytes())  # not memory-mapped, unlike load_file
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
        why = str(error) or "it is empty or truncated"
        raise ValueError(f"weights={str(path)!r} are not a file of weights: {why}") from error
    tensors: dict[str, Tensor] = {}
    seen, ahead = set(), [("", found)]  # a dictionary may occur twice or contain itself
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


# Pickles. Stand-ins replace whatever is neither a tensor nor a plain value, such as training
# settings (argparse.Namespace, omegaconf) and NumPy scalars, so that only torch's code is run.


class _Ignored:
    """Stand-in for an object whose state may be anything."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Emptied:
    """Stand-in for an object that may be a kind of dictionary; it becomes a plain one."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


_OFTEN = (  # common in files of the old format, whose content cannot be listed
    *("argparse.Namespace", "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
)
_allowing = threading.Lock()  # torch's list of allowed names is global to the process


def _unpickled(path: str | os.PathLike) -> tuple[Any, list[str]]:
    """Read a file of ``torch.save``; return its content and the names that got stand-ins."""
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
    """Find the prefix below which most names match a network, and return the tensors there.

    If several match equally, averaged weights (``state_dict_ema``, DINO's teacher) come first.
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
    """Make a failed download name the weights, and the folder to which they can be copied."""
    try:
        yield
    except OSError as error:  # covers network and file errors
        raise OSError(
            f"the weights of encoder={encoder!r} are not in {folder} and could not be downloaded: "
            f"{error}. Connect to the internet once, or copy this folder from a machine that has "
            "them; weights=None starts from random weights"
        ) from error


def adapt_first_conv(model: nn.Module, channels: int) -> None:
    """Adapt an RGB model to ``channels`` channels, preserving its first layer's learned filters.

    One or two channels share the sum of the three filters; more than three use them in turn, each
    divided by its number of uses. An image with equal channels gets the response of a gray one.
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
