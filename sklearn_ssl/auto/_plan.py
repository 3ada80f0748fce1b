"""What fits into a time budget: the speed of this machine, and the parts that it allows."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklearn_ssl._utils._torch import own_settings, resolve_device
from sklearn_ssl.contrastive import SimCLR
from sklearn_ssl.fixed import PatchDictionary, PixelFeatures
from sklearn_ssl.images import count_images, pick
from sklearn_ssl.views import Views

_SAMPLE = 256  # images that speeds are measured with
_FEW_ATOMS, _MANY_ATOMS = 64, 512
_ATOMS = (1600, 1200, 800, 600, 400, 200, 100, 50, 25)
_DICTIONARY_SHARE = 0.6  # of the time, at most
_DICTIONARY_SIDE = 48  # largest side of the images that patches are cut from
_LEARNER_SIDE = 96  # largest side of the images that the network sees
_SIDE_OF_OBJECTS = 24  # smallest side of images of which views show a part at its own resolution
_MOST_BYTES = 2**32  # of the features that a fit computes
_LONG = 15.0  # passes over the images, from which on larger views are better
_LEAST_SECONDS = 5.0  # of a training that is worth it
_LAYERS, _CHANNELS = ["layer2", "layer3", "layer4"], 64 + 128 + 256
_HANDED = 0.65  # share of images told from mirror images, from which on left and right matter


@dataclass
class Speeds:
    """Speeds on this machine, for the images at hand.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels of the images.
    an_image : float
        Seconds to read an image and encode it with no atoms.
    an_atom : float
        Seconds to encode an image with one more atom.
    a_product : float
        Seconds of a multiplication in clustering.
    training : float
        Seconds of a training step, per image.
    encoding : float
        Seconds to encode an image by the learner, not mirrored.
    """

    image_shape: tuple[int, int, int]
    an_image: float
    an_atom: float
    a_product: float
    training: float
    encoding: float

    def of_dictionary(self, dictionary: PatchDictionary, n_training: int, n_rows: int) -> float:
        """Return the seconds to fit a dictionary and to encode some images."""
        side = dictionary.patch_size
        height, width, channels = self.image_shape
        values = channels * min(side, height) * min(side, width)
        products = dictionary.n_patches * dictionary.n_atoms * values * dictionary.n_iter
        reading = min(n_training, 10_000) * self.an_image
        return products * self.a_product + reading + n_rows * self.to_respond(dictionary)

    def to_respond(self, dictionary: PatchDictionary) -> float:
        """Return the seconds to encode an image by a dictionary."""
        return (self.an_image + dictionary.n_atoms * self.an_atom) * (1 + dictionary.mirror)

    def of_kernel(self, n: int, width: int) -> float:
        """Return the seconds to fit a kernel probe to so many features of n images."""
        return self.a_product * (n**2 * width + 4 * n**3)


def make_dictionary(shape: tuple[int, int, int], /, **params: Any) -> PatchDictionary:
    """Make a dictionary whose patches suit images of a shape."""
    side = min(shape[:2])
    size = _DICTIONARY_SIDE if side > _DICTIONARY_SIDE else None
    return PatchDictionary(
        patch_size=8 if side >= _SIDE_OF_OBJECTS else max(2, side // 2), input_size=size, **params
    )


def make_learner(shape: tuple[int, int, int], long: bool, /, **params: Any) -> SimCLR:
    """Make a learner for images of a shape, for a long or a short training."""
    side = min(shape[:2])
    size = side
    if side >= _SIDE_OF_OBJECTS:
        size = side * 5 // 8 if long else side // 2
    input_size = _LEARNER_SIDE if side > _LEARNER_SIDE else None
    return SimCLR(
        views=Views(size=size, flip=0.5 if params.get("mirror") else 0.0),
        layer=_LAYERS,
        input_size=input_size,
        **params,
    )


def are_handed(pixels: np.ndarray, mirrored: np.ndarray) -> bool:
    """Return whether images can be told from their mirror images, as text or digits can.

    Half of the images, with their mirror images, train a kernel ridge classifier for the others
    (visual chirality, Lin et al. 2020).

    Parameters
    ----------
    pixels, mirrored : ndarray of shape (n, d)
        Pixels of images, and of their mirror images.
    """
    n, found = len(pixels), []
    for train in (slice(0, None, 2), slice(1, None, 2)):
        test = slice(1 - (train.start or 0), None, 2)
        seen = torch.from_numpy(np.concatenate([pixels[train], mirrored[train]])).double()
        asked = torch.from_numpy(np.concatenate([pixels[test], mirrored[test]])).double()
        squares = torch.cdist(seen, seen).square()
        unit = squares.mean().clamp(min=1e-300)
        kernel = torch.exp(-squares / unit)
        kernel.diagonal().add_(0.1)
        signs = torch.ones(len(seen), dtype=torch.float64)
        signs[len(seen) // 2 :] = -1
        scores = torch.exp(-torch.cdist(asked, seen).square() / unit) @ torch.linalg.solve(
            kernel, signs
        )
        half = len(asked) // 2
        found += [(scores[:half] > 0).double().mean(), (scores[half:] < 0).double().mean()]
    return n >= 8 and float(sum(found) / len(found)) > _HANDED


def measured(X: Any, common: dict[str, Any]) -> tuple[Speeds, bool]:
    """Measure speeds, and whether left and right matter, with some of the images.

    Parameters
    ----------
    X : array-like, or images in files
    common : dict
        Arguments of all parts: how images are read, and the device.

    Returns
    -------
    Speeds
    mirror : bool
        Whether images can be mirrored, as left and right do not matter.
    """
    n = count_images(X)
    sample = pick(X, np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int)))
    n = count_images(sample)
    pixels = PixelFeatures(**common).fit(sample)
    shape = pixels.image_shape_
    values = pixels.transform(sample)
    read = np.isfinite(values).all(1)
    maps = values[read].reshape(-1, *pixels.encoder_.layers["pixels"])
    mirror = not are_handed(maps.reshape(len(maps), -1), maps[..., ::-1].reshape(len(maps), -1))
    seconds = []
    for n_atoms in (_FEW_ATOMS, _MANY_ATOMS):
        params = {"n_atoms": n_atoms, "n_patches": n_atoms, "atoms": "patches", "random_state": 0}
        found = make_dictionary(shape, **params, **common).fit(sample)
        seconds.append(_seconds(functools.partial(found.transform, sample)) / n)
    an_atom = max(0.0, (seconds[1] - seconds[0]) / (_MANY_ATOMS - _FEW_ATOMS))
    learner = make_learner(shape, False, mirror=mirror, random_state=0, **common)
    learner.set_params(max_epochs=2).fit(sample)
    speeds = Speeds(
        shape,
        max(0.0, seconds[0] - _FEW_ATOMS * an_atom),
        an_atom,
        _seconds_of_a_product(resolve_device(learner.device)),
        1 / learner.history_[-1]["images_per_second"],
        _seconds(functools.partial(learner.transform, sample)) / n / (1 + mirror),
    )
    return speeds, mirror


def _seconds(function: Callable[[], Any]) -> float:
    """Return the seconds that a function takes when it is called again."""
    function()
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _seconds_of_a_product(device: torch.device) -> float:
    """Return the seconds per multiplication of finding the nearest of many centers."""
    with own_settings(device):
        rows, centers = torch.ones(4096, 192, device=device), torch.ones(192, 1024, device=device)
        return _seconds(lambda: float((rows @ centers).argmax(1)[0])) / (4096 * 192 * 1024)


def planned(
    speeds: Speeds,
    mirror: bool,
    seconds: float,
    n_training: int,
    n_rows: int,
    are_labeled: bool,
    most_features: int | None = None,
    most_seconds: float | None = None,
) -> dict[str, Any]:
    """Choose the parts that fit into the time.

    The dictionary has as many atoms as fit into a part of the time; the learner gets what is left,
    if that is enough to learn anything. Labels may show that pixels are enough.

    Parameters
    ----------
    speeds : Speeds
    mirror : bool
        Whether features are averaged over an image and its mirror image.
    seconds : float
        Time for all parts.
    n_training : int
        Number of images to learn from.
    n_rows : int
        Number of images to encode within the time.
    are_labeled : bool
        Whether labels choose among the parts.
    most_features : int, optional
        Largest number of features.
    most_seconds : float, optional
        Longest time to encode an image.

    Returns
    -------
    dict of str to transformer
        Unfitted parts; ``time_budget`` of the learner is about what will be left for it.
    """
    shape: tuple[int, int, int] = speeds.image_shape
    parts: dict[str, Any] = {"pixels": PixelFeatures()} if are_labeled else {}
    fits = max(_MOST_BYTES // (4 * max(n_rows, 1)), 1000)
    most_features = fits if most_features is None else min(most_features, fits)
    pool, width = _pool(most_features)
    encoding = speeds.encoding * (1 + mirror)
    learns = most_seconds is None or encoding < most_seconds
    left = seconds - n_rows * encoding * learns
    dictionary = make_dictionary(shape, mirror=mirror, pool=pool)
    patches = [max(1, min(s, _DICTIONARY_SIDE) - dictionary.patch_size + 1) for s in shape[:2]]
    for n_atoms in _ATOMS:
        dictionary.set_params(n_atoms=n_atoms)
        taken = speeds.of_dictionary(dictionary, n_training, n_rows)
        if (
            taken <= _DICTIONARY_SHARE * left
            and n_atoms <= n_training * patches[0] * patches[1] / 2
            and n_atoms * pool**2 <= most_features - width
            and (most_seconds is None or speeds.to_respond(dictionary) <= most_seconds - encoding)
        ):
            parts["dictionary"] = dictionary
            left -= taken
            break
    if learns and left >= _LEAST_SECONDS:
        passes = left / speeds.training / n_training
        learner = make_learner(shape, passes >= _LONG, mirror=mirror, pool=pool)
        parts["learner"] = learner.set_params(time_budget=left)
    return parts or {"pixels": PixelFeatures()}


def _pool(most_features: int) -> tuple[int, int]:
    """Return the side of the grid that features are pooled over, and the learner's features."""
    for pool in (3, 2, 1):
        width = _CHANNELS * pool**2
        if width + 100 * pool**2 <= most_features:
            return pool, width
    raise ValueError(
        f"max_features={most_features} must be at least {_CHANNELS + 100}; for fewer features, put "
        "a PCA behind AutoFeatures"
    )


def described(parts: dict[str, Any], speeds: Speeds, n_training: int, n_rows: int) -> str:
    """Describe a plan in a line."""
    found = ["pixels"] if "pixels" in parts else []
    if "dictionary" in parts:
        seconds = speeds.of_dictionary(parts["dictionary"], n_training, n_rows)
        found.append(f"a dictionary of {parts['dictionary'].n_atoms} patches ({seconds:.0f} s)")
    if "learner" in parts:
        seconds = parts["learner"].time_budget
        n_seen = seconds / speeds.training
        found.append(
            f"{type(parts['learner']).__name__} ({seconds:.0f} s, some {n_seen:,.0f} images, "
            f"{n_seen / n_training:.1f} passes)"
        )
    return f"{', '.join(found)}; features of {n_rows:,} images"
