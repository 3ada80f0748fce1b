"""Pretrainings and features that ``memory`` keeps, so that they are not computed twice."""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Memory

from sklearn_ssl._utils._isolation import OwnRandomNumbers
from sklearn_ssl._utils._kept import Kept, key_of
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._ranks import current_ranks
from sklearn_ssl._utils._storage import DAMAGED, read_file, write_file
from sklearn_ssl.base._identity import describe, training_arguments
from sklearn_ssl.encoders import Pair, pooled_width
from sklearn_ssl.exceptions import MemoryWarning
from sklearn_ssl.images import Images, image_digest

__all__ = ["is_on", "keeps_trainings", "kept_features", "pretrain_once"]

_POOLS: tuple[str | int, ...] = ("avg", "max", 1, 2, 3, 4)  # what a search mostly asks for
_BYTES_AT_MOST = 2**30  # of features that were not asked for yet


def is_on(memory: Any) -> bool:
    """Return whether anything is kept: a ``joblib.Memory(None)`` keeps nothing."""
    return (memory.location if isinstance(memory, Memory) else memory) is not None


def keeps_trainings(learner: Any) -> bool:
    """Return whether trainings are kept; warn that they are not if there is no seed."""
    unseeded = learner._unseeded()
    if not is_on(learner.memory) or unseeded is None:
        return is_on(learner.memory)
    warn(
        f"memory= keeps features, and no training, as every fit with {unseeded}=None is another "
        "one; give a random_state to train once",
        MemoryWarning,
    )
    return False


def pretrain_once(
    learner: Any,
    images: Images,
    seed: int,
    epochs: int,
    draws: OwnRandomNumbers,
    train: Callable[[int, bool], None],
) -> None:
    """Take what an equal training learned before, train the rest of it, and keep the result.

    ``train(epochs, goes_on)`` trains the learner, anew or from what it was given.
    """
    what = {
        "version": version("sklearn-ssl"),
        "class": describe(type(learner)),
        "seed": seed,
        "images": f"{images.shape} {images.dtype} {image_digest(images)}",
        "names": [str(name) for name in getattr(learner, "feature_names_in_", ())],
        **training_arguments(learner),
    }
    if learner.schedule == "constant":  # of which every training is the beginning of longer ones
        del what["max_epochs"]
    ranks, opened = current_ranks(), Kept(learner.memory).opened(key_of(what))
    timed = learner.time_budget is not None  # no two are equally long
    with contextlib.ExitStack() as stack:
        folder = ranks.first(lambda: stack.enter_context(opened))
        done = ranks.first(lambda: _longest(folder, sys.maxsize if timed else epochs))
        if done is not None and not _restored(learner, done[1], draws):
            done = None
        if done is not None and (timed or done[0] == epochs):
            return
        train(epochs - (done[0] if done else 0), done is not None)
        whole = timed or learner.n_epochs_ == epochs  # no callback stopped it
        if whole and ranks.rank == 0:
            with kept_or_warned("the pretraining"):
                values = {**learner._state(), "generators": draws.state()}
                write_file(folder / f"epochs-{learner.n_epochs_:06d}.safetensors", values)


def _restored(learner: Any, values: Any, draws: OwnRandomNumbers) -> bool:
    """Restore what was kept of a learner's training, and return whether that worked."""
    before = draws.state()
    try:
        learner._restore(values)
        draws.set_state(values["generators"])
    except DAMAGED as error:
        draws.set_state(before)
        warn(
            f"what memory={str(learner.memory)!r} has of this training does not fit: "
            f"{type(error).__name__}: {error}; training anew",
            MemoryWarning,
        )
        return False
    return True


def _longest(folder: Path, epochs: int) -> tuple[int, Any] | None:
    """Return the longest training of at most ``epochs`` epochs and its values, or None."""
    for file in sorted(folder.glob("epochs-*.safetensors"), reverse=True):
        n_epochs = int(file.stem.removeprefix("epochs-"))
        if n_epochs <= epochs:
            try:
                return n_epochs, read_file(file)
            except (OSError, ValueError) as error:
                warn(f"{error}; training anew", MemoryWarning)
                with contextlib.suppress(OSError):  # what cannot be deleted cannot be replaced
                    file.unlink()
    return None


def kept_features(
    learner: Any, images: Images, wanted: list[Pair], encode: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return features (n, d) of layers and their pools, side by side.

    All missing ones are computed in one pass, ``encode(pairs)``, together with those that a search
    is likely to ask for next, if they are not too many.
    """
    encoder, pixels = learner.encoder_, learner.net_.module_.pixels
    what = {
        "version": version("sklearn-ssl"),
        "learner": [describe(type(learner)), training_arguments(learner)],  # as size of patches
        "weights": _digest_of([*pixels.state_dict().values(), *encoder.state_dict().values()]),
        "images": f"{images.shape} {images.dtype} {image_digest(images)}",
    }
    order, n = list(encoder.layers), len(images)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(Kept(learner.memory).opened(key_of(what)))
        except OSError as error:  # as on the machine that a saved learner is used on
            warn(f"{error}; features are computed, and not kept", MemoryWarning)
            return encode(wanted)
        mirrored = "-mirror" if learner.mirror else ""
        places = {
            (layer, pool): folder / f"{order.index(layer):03d}-{pool}{mirrored}.safetensors"
            for layer in order
            for pool in (*_POOLS, *(pool for _, pool in wanted))
        }

        def width(pair: Pair) -> int:
            return pooled_width(encoder.layers[pair[0]], pair[1])

        found: dict[Pair, Any] = {pair: _read(places[pair], (n, width(pair))) for pair in wanted}
        if missing := [pair for pair in found if found[pair] is None]:
            pairs = _with_more(missing, encoder.layers, n)
            parts = np.split(encode(pairs), np.cumsum([*map(width, pairs)])[:-1], axis=1)
            found |= zip(pairs, parts, strict=True)
            if not images.skipped:  # they may be there the next time
                with kept_or_warned("features"):
                    for pair, part in zip(pairs, parts, strict=True):
                        rows = torch.from_numpy(np.ascontiguousarray(part))
                        write_file(places[pair], rows)
        return np.concatenate([found[pair] for pair in wanted], axis=1)


def _with_more(missing: list[Pair], shapes: dict[str, Any], n_images: int) -> list[Pair]:
    """Return these pairs, and other pools of their layers."""
    pairs, left = list(missing), _BYTES_AT_MOST
    for layer in dict.fromkeys(layer for layer, _ in missing):
        more = [(layer, pool) for pool in _POOLS if (layer, pool) not in missing]
        left -= 4 * n_images * sum(pooled_width(shapes[layer], pool) for _, pool in more)
        if left < 0:
            break
        pairs += more
    return pairs


def _read(place: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Read features; return None if there are none or, with a warning, if they are damaged."""
    try:
        rows = read_file(place)
        if not isinstance(rows, torch.Tensor) or (rows.shape, rows.dtype) != (shape, torch.float32):
            raise ValueError(f"{place} holds other than features of shape {shape}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warn(f"{error}; features are computed again", MemoryWarning)
        return None
    return rows.numpy()


@contextlib.contextmanager
def kept_or_warned(what: str) -> Iterator[None]:
    """Warn of what cannot be written: it costs the time to compute again, and nothing else."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        warn(f"{what} cannot be kept in memory=: {reason}", MemoryWarning)


def _digest_of(tensors: Any) -> str:
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
