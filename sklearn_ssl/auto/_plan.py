"""Plan of a fit within a time budget: measure this machine, and choose the parts that fit."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from sklearn_ssl._utils._torch import own_settings, resolve_device
from sklearn_ssl.contrastive import SimCLR
from sklearn_ssl.encoders import size_for
from sklearn_ssl.fixed import ColorHistogram, PatchDictionary, PixelFeatures
from sklearn_ssl.images import count_images, pick
from sklearn_ssl.views import Views

_SAMPLE = 256  # images that speeds are measured with
_FEWEST = 32  # images that they are measured with at least
_FEW_ATOMS, _MANY_ATOMS = 64, 512
_PATCHES_AN_ATOM = 75  # to find each atom by
_ATOMS = (1600, 1200, 800, 600, 400, 200, 100, 50, 25)
_ENCODING_SHARE = 0.4  # of the time that the learner may take to encode images
_FROZEN_SHARE = 0.8  # of the time that pretrained weights may take
_DICTIONARY_SHARE = 0.65  # of the time, at most
_ENOUGH_ATOMS, _SHARE_OF_MORE = 400, 0.1  # of the time, for a dictionary of more atoms than that
_DICTIONARY_SIDE = 48  # largest side of the images that patches are cut from
_LEARNER_SIDE = 96  # largest side of the images that the network sees
_SIDE_OF_OBJECTS = 24  # smallest side of images of which views show a part at its own resolution
# in units of a multiplication, measured with AVX512 and 2 threads
_PRODUCTS_TO_CHOOSE, _PRODUCTS_OF_A_VALUE, _PRODUCTS_TO_JUDGE = 1.2e11, 6e4, 4.8e11
_PRODUCTS_TO_DRAW = 8000  # a value of a patch
_MEASURING = 0.05  # of the time, at most, for an image in each of the measurements
_MOST_BYTES = 2**32  # of the features that a fit computes
_LONG = 15.0  # passes over the images, from which on larger views are better
_LEAST_SECONDS = 5.0  # of a training that is worth it
_LAYERS = ["layer1", "layer2", "layer3"]
_CHANNELS = {"small_convnet": 32 + 128 + 128, "wide_convnet": 64 + 256 + 256}
_LEAST_FEATURES = _CHANNELS["small_convnet"] + 100  # with a small dictionary
_LEAST_FOR_WIDE = 120.0  # seconds of a fit that may use the wide network
_WIDE = 3.0  # passes of the wide network over the images, from which on it is better
_SHARE_OF_COLORS = 0.2  # of the time, at most
_HANDED = 0.65  # share of images told from mirror images, from which on left and right matter


@dataclass
class Speeds:
    """Speed of this machine for some images: seconds of what a fit does.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels of the images.
    reading : float
        Seconds to read an image.
    an_image : float
        Seconds to read an image and encode it with no atoms.
    an_atom : float
        Seconds to encode an image with one more atom.
    a_product : float
        Seconds of a multiplication in clustering.
    training : dict of str to float
        Seconds of a training step, per image, by the name of the encoder.
    encoding : dict of str to float
        Seconds to encode an image by these encoders, not mirrored.
    frozen : float
        Seconds to encode an image by pretrained weights, if there are any.
    frozen_layer : str or None
        Last layer of their network.
    frozen_width : int
        Number of its features.
    counting : float
        Seconds to read an image and count its colors.
    """

    image_shape: tuple[int, int, int]
    reading: float
    an_image: float
    an_atom: float
    a_product: float
    training: dict[str, float]
    encoding: dict[str, float]
    frozen: float = 0.0
    frozen_layer: str | None = None
    frozen_width: int = 0
    counting: float = 0.0

    def of_dictionary(self, dictionary: PatchDictionary, n_training: int, n_rows: int) -> float:
        """Return the seconds to fit a dictionary and to encode some images."""
        side = dictionary.patch_size
        height, width, channels = self.image_shape
        values = channels * min(side, height) * min(side, width)
        products = dictionary.n_atoms * dictionary.n_iter + _PRODUCTS_TO_DRAW
        learning = dictionary.n_patches * values * products * self.a_product
        reading = min(n_training, 10_000) * self.reading
        return learning + reading + n_rows * self.to_respond(dictionary)

    def to_respond(self, dictionary: PatchDictionary) -> float:
        """Return the seconds to encode an image by a dictionary."""
        return (self.an_image + dictionary.n_atoms * self.an_atom) * (1 + dictionary.mirror)

    def encoder_for(self, seconds: float, n_training: int) -> str:
        """Return the encoder that suits a training of so many seconds."""
        if "wide_convnet" not in self.training:
            return "small_convnet"
        passes = seconds / self.training["wide_convnet"] / n_training
        return "wide_convnet" if passes >= _WIDE else "small_convnet"

    def of_kernel(self, n: int, width: int) -> float:
        """Return the seconds to fit a kernel probe to so many features of n images."""
        choosing = _PRODUCTS_TO_CHOOSE * (min(n, 1024) / 1024) ** 2
        cubes = 0.5 * n**3 + 1.4 * min(n, 4096) ** 3  # of the solution, and of adjusting alpha
        return self.a_product * (0.55 * n**2 * width + cubes + choosing)

    def of_linear(self, n: int, width: int) -> float:
        """Return the seconds to fit a linear probe to so many features of n images."""
        return self.a_product * _PRODUCTS_OF_A_VALUE * n * width

    def of_judging(self, n: int) -> float:
        """Return the seconds to choose weights by n labeled images."""
        return self.a_product * _PRODUCTS_TO_JUDGE * (n / 1024) ** 2


def make_dictionary(shape: tuple[int, int, int], /, **params: Any) -> PatchDictionary:
    """Make a dictionary whose patches suit images of a shape."""
    side = min(shape[:2])
    size = _DICTIONARY_SIDE if side > _DICTIONARY_SIDE else None
    return PatchDictionary(
        patch_size=8 if side >= _SIDE_OF_OBJECTS else max(2, side // 2), input_size=size, **params
    )


def _patches_an_image(shape: tuple[int, int, int]) -> int:
    """Return the number of patches that a dictionary cuts from an image."""
    dictionary = make_dictionary(shape)
    height, width = size_for(shape[:2], dictionary.input_size)
    side = dictionary.patch_size
    return max(1, height - side + 1) * max(1, width - side + 1)


def make_learner(shape: tuple[int, int, int], encoder: str, long: bool, /, **params: Any) -> SimCLR:
    """Make a learner for images of a shape, for a long or a short training."""
    side = min(shape[:2])
    size = side
    if side >= _SIDE_OF_OBJECTS:
        size = side * 5 // 8 if long else side // 2
    input_size = _LEARNER_SIDE if side > _LEARNER_SIDE else None
    return SimCLR(
        encoder=encoder,
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


def measured(
    X: Any, common: dict[str, Any], seconds: float, frozen: Any = None
) -> tuple[Speeds, bool]:
    """Measure speeds, and whether left and right matter, with some of the images.

    Parameters
    ----------
    X : array-like, or images in files
    common : dict
        Arguments of all parts: how images are read, and the device.
    seconds : float
        Time of the whole fit, a small part of which this may take.
    frozen : PretrainedEncoder, optional
        Pretrained weights to measure, too.

    Returns
    -------
    Speeds
    mirror : bool
        Whether images can be mirrored, as left and right do not matter.
    """
    n = count_images(X)
    began = time.perf_counter()
    first = pick(X, np.unique(np.linspace(0, n - 1, min(n, _FEWEST)).astype(int)))
    shape = PixelFeatures(**common).fit(first).image_shape_
    reading = (time.perf_counter() - began) / count_images(first)
    passes = 2e-4 * shape[0] * shape[1] / 32**2  # seconds of a training step, per image, at least
    most = int(_MEASURING * seconds / (reading + passes))
    n_sample = min(n, _SAMPLE, max(_FEWEST, most))
    sample = pick(X, np.unique(np.linspace(0, n - 1, n_sample).astype(int)))
    n = count_images(sample)
    pixels = PixelFeatures(**common).fit(sample)
    values = pixels.transform(sample)
    reading = _seconds(functools.partial(pixels.transform, sample)) / n
    read = np.isfinite(values).all(1)
    maps = values[read].reshape(-1, *pixels.encoder_.layers["pixels"])
    mirror = not are_handed(maps.reshape(len(maps), -1), maps[..., ::-1].reshape(len(maps), -1))
    taken = []
    many = min(_MANY_ATOMS, n * _patches_an_image(shape))
    few = min(_FEW_ATOMS, max(1, many // 8))
    for n_atoms in (few, many):
        params = {"n_atoms": n_atoms, "n_patches": n_atoms, "atoms": "patches", "random_state": 0}
        found = make_dictionary(shape, **params, **common).fit(sample)
        taken.append(_seconds(functools.partial(found.transform, sample)) / n)
    an_atom = max(0.0, (taken[1] - taken[0]) / max(1, many - few))
    training, encoding = {}, {}
    for encoder in _CHANNELS if seconds >= _LEAST_FOR_WIDE else ["small_convnet"]:
        learner = make_learner(shape, encoder, False, mirror=mirror, random_state=0, **common)
        learner.set_params(max_epochs=2).fit(sample)
        training[encoder] = 1 / learner.history_[-1]["images_per_second"]
        encode = functools.partial(learner.transform, sample)
        encoding[encoder] = _seconds(encode) / n / (1 + mirror)
    histogram = ColorHistogram(n_iter=1, random_state=0, **common).fit(sample)
    speeds = Speeds(
        shape,
        reading,
        max(0.0, taken[0] - few * an_atom),
        an_atom,
        _seconds_of_a_product(resolve_device(learner.device)),
        training,
        encoding,
        counting=_seconds(functools.partial(histogram.transform, sample)) / n,
    )
    if frozen is not None:
        some = pick(sample, np.arange(min(n, _FEWEST)))
        fitted = clone(frozen).set_params(**common).fit(some)
        speeds.frozen_layer = fitted.encoder_.last_layer
        fitted.set_params(layer=speeds.frozen_layer)
        speeds.frozen_width = fitted._n_features_out
        speeds.frozen = _seconds(functools.partial(fitted.transform, some)) / count_images(some)
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
    frozen: Any = None,
    most_features: int | None = None,
    most_seconds: float | None = None,
    a_feature: float = 0.0,
) -> dict[str, Any]:
    """Choose the parts that fit into the time.

    The dictionary has as many atoms as fit into a part of the time, and more than 400 only if they
    fit into a small part; the learner gets what is left, if that is enough to learn anything.
    Labels may show that pixels are enough.

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
    frozen : PretrainedEncoder, optional
        Pretrained weights to use if there is time.
    most_features : int, optional
        Largest number of features.
    most_seconds : float, optional
        Longest time to encode an image.
    a_feature : float, default=0.0
        Seconds that a head on the features needs for each of them.

    Returns
    -------
    dict of str to transformer
        Unfitted parts; ``time_budget`` of the learner is about what will be left for it.
    """
    shape: tuple[int, int, int] = speeds.image_shape
    fits = max(_MOST_BYTES // (4 * max(n_rows, 1)), 1000)
    most_features = fits if most_features is None else min(most_features, fits)
    pool = _pool(most_features)
    pixels = _pixels_within(shape, most_features)
    parts: dict[str, Any] = {"pixels": pixels} if are_labeled else {}
    left = seconds - 2 * n_rows * speeds.reading * are_labeled
    per_image = np.inf if most_seconds is None else most_seconds
    colors = ColorHistogram()
    counting = (n_rows + min(n_training, 10_000)) * speeds.counting
    counting += a_feature * colors.n_colors
    if (
        (are_labeled or (shape[2] > 1 and frozen is None))
        and most_features >= _LEAST_FEATURES + colors.n_colors
        and speeds.counting <= _SHARE_OF_COLORS * per_image
        and counting <= _SHARE_OF_COLORS * left
    ):
        parts["colors"] = colors
        left -= counting
        per_image -= speeds.counting
        most_features -= colors.n_colors
    if (
        frozen is not None
        and n_rows * speeds.frozen <= _FROZEN_SHARE * left
        and speeds.frozen <= per_image
        and speeds.frozen_width <= most_features
    ):
        parts["frozen"] = clone(frozen).set_params(layer=speeds.frozen_layer)
        left -= n_rows * speeds.frozen + a_feature * speeds.frozen_width
        per_image -= speeds.frozen
        most_features -= speeds.frozen_width
    encoder = None
    for name in reversed(speeds.encoding):  # the widest that is worth it, and leaves time
        encoding = speeds.encoding[name] * (1 + mirror)
        width = _CHANNELS[name] * pool**2
        taken = n_rows * encoding + a_feature * width
        is_worth_it = (
            name == speeds.encoder_for(left - taken, n_training) and encoding <= per_image / 2
        )
        if (
            encoding < per_image
            and width <= most_features
            and taken <= _ENCODING_SHARE * left
            and (is_worth_it or name == "small_convnet")
        ):
            encoder = name
            left -= taken
            per_image -= encoding
            most_features -= width
            break
    dictionary = make_dictionary(shape, mirror=mirror, pool=pool)
    for n_atoms in _ATOMS:
        n_patches = min(100_000, max(10_000, _PATCHES_AN_ATOM * n_atoms))
        dictionary.set_params(n_atoms=n_atoms, n_patches=n_patches)
        taken = speeds.of_dictionary(dictionary, n_training, n_rows)
        taken += a_feature * n_atoms * pool**2
        share = 1.0
        if encoder and left > 2 * _LEAST_SECONDS:
            share = _DICTIONARY_SHARE if n_atoms <= _ENOUGH_ATOMS else _SHARE_OF_MORE
        if (
            taken <= share * left
            and n_atoms <= n_training * _patches_an_image(shape) / 2
            and n_atoms * pool**2 <= most_features
            and speeds.to_respond(dictionary) <= per_image
        ):
            parts["dictionary"] = dictionary
            left -= taken
            break
    if encoder and left >= _LEAST_SECONDS:
        passes = left / speeds.training[encoder] / n_training
        learner = make_learner(shape, encoder, passes >= _LONG, mirror=mirror, pool=pool)
        parts["learner"] = learner.set_params(time_budget=left)
    return parts or {"pixels": pixels}


def width_of(parts: dict[str, Any], speeds: Speeds) -> int:
    """Return the number of features of planned parts other than pixels."""
    width = speeds.frozen_width if "frozen" in parts else 0
    if "dictionary" in parts:
        width += parts["dictionary"].n_atoms * parts["dictionary"].pool ** 2
    if "learner" in parts:
        width += _CHANNELS[parts["learner"].encoder] * parts["learner"].pool ** 2
    return width


def _pixels_within(shape: tuple[int, int, int], most: int) -> PixelFeatures:
    """Return pixels of copies as large as the number of features allows."""
    for side in range(16, 0, -1):
        pixels = PixelFeatures(input_size=side)
        height, width = size_for(shape[:2], min(side, *shape[:2]))
        if height * width * shape[2] <= most:
            break
    return pixels


def _pool(most_features: int) -> int:
    """Return the side of the grid that features are pooled over."""
    for pool in (3, 2, 1):
        if _LEAST_FEATURES * pool**2 <= most_features:
            return pool
    raise ValueError(
        f"max_features={most_features} must be at least {_LEAST_FEATURES}; for fewer features, "
        "put a PCA behind AutoFeatures"
    )


def described(parts: dict[str, Any], speeds: Speeds, n_training: int, n_rows: int) -> str:
    """Describe a plan in a line."""
    found: list[str] = [name for name in ("pixels", "colors") if name in parts]
    if "frozen" in parts:
        found.append(f"pretrained weights ({n_rows * speeds.frozen:.0f} s)")
    if "dictionary" in parts:
        seconds = speeds.of_dictionary(parts["dictionary"], n_training, n_rows)
        found.append(f"a dictionary of {parts['dictionary'].n_atoms} patches ({seconds:.0f} s)")
    if "learner" in parts:
        seconds = parts["learner"].time_budget
        encoder = parts["learner"].encoder
        n_seen = seconds / speeds.training[encoder]
        found.append(
            f"{type(parts['learner']).__name__} of a {encoder} ({seconds:.0f} s, some "
            f"{n_seen:,.0f} images, {n_seen / n_training:.1f} passes)"
        )
    return f"{', '.join(found)}; features of {n_rows:,} images"
