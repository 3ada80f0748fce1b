"""A fitted network in a file and back, and as a module of torch alone."""

import copy
import math
import warnings
from collections.abc import Iterable
from threading import get_ident
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._saving import described
from sklearn_ssl._utils._torch import isolated, own_settings, resolve_device
from sklearn_ssl.encoders import BackboneEncoder, Pair, original_names
from sklearn_ssl.exceptions import UnavailableDeviceWarning
from sklearn_ssl.images import PixelRange
from sklearn_ssl.nn import ChannelScaling, resize_images

_LARGEST_IMAGE = 2**26  # values: 4,729 x 4,729 pixels in color
_SOME = 2**27  # values that are built and dropped: the head of VGG-19 has 1.2e8
_MADE = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


class NoLargerThan(TorchFunctionMode):
    """A mode in which a network much larger than some tensors cannot be built.

    A few bytes can name a network, or a number of units, that takes all memory there is. Within
    this mode the first layer that is too much raises ValueError, before its memory is touched.

    Parameters
    ----------
    tensors : iterable of Tensor
        Parameters and buffers that the network is to be filled with.
    image : int
        Values of an image; a network may be tried with blank ones.
    """

    def __init__(self, tensors: Iterable[Tensor], image: int):
        super().__init__()
        self.left = 2 * sum(tensor.numel() for tensor in tensors) + _SOME
        self.at_once = self.left + 8 * image

    def __enter__(self) -> Self:
        thread = get_ident()  # torch calls the hook in all of them

        def count(_module: nn.Module, _name: str, parameter: Any) -> None:
            if parameter is not None and get_ident() == thread:
                self.left -= parameter.numel()
                _check(self.left >= 0)

        self.hook = register_module_parameter_registration_hook(count)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.hook.remove()
        super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _MADE and kwargs.get("out") is None:
            drawn = {"generator": None} if "generator" in kwargs else {}
            blank = func(*args, **{**kwargs, **drawn, "device": "meta"})
            _check(blank.numel() <= self.at_once)
        return func(*args, **kwargs)


def _check(fits: bool) -> None:
    if not fits:
        raise ValueError("the arguments ask for a network that is larger than the one in the file")


class FeatureExtractor(nn.Module):
    """Module from pixels, as a learner was fitted to, to the features of layers.

    It holds a copy of the encoder, on the CPU and in evaluation mode.

    Parameters
    ----------
    pixels : PixelRange
        Takes pixels to [0, 1].
    encoder : Encoder
    wanted : list of (str, pool)
        Layers, each with what :func:`pool_features` does to it.
    mirror : bool
        Whether features are the mean over an image and its mirror image.
    size : (int, int), optional
        Height and width to which images are resized for the encoder.
    """

    origin: Tensor

    def __init__(
        self,
        pixels: PixelRange,
        encoder: Any,
        wanted: list[Pair],
        mirror: bool,
        size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.scaling = ChannelScaling(pixels.offset.flatten(), pixels.scale.flatten())
        self.register_buffer("origin", pixels.base.view(1, -1, 1, 1).clone())
        self.is_far = pixels.origin is not None
        self.encoder = copy.deepcopy(encoder)
        self.wanted = wanted
        self.mirror = mirror
        self.size = size
        self.requires_grad_(False).cpu().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (n, d), float32, of pixels (n, c, h, w) of any type."""
        if self.is_far:
            pixels = pixels.double() - self.origin.double()
        images = resize_images(self.scaling(pixels.float()), self.size)
        return self.encoder.features(images, self.wanted, self.mirror)


# Transformers, whose network is built anew and filled


def state_of(transformer: Any) -> dict[str, Any]:
    """Return what ``save`` writes of a transformer: arguments, and what was learned."""
    net, pixels = transformer.net_, transformer.net_.module_.pixels
    _check_size(transformer.image_shape_)
    names = getattr(transformer, "feature_names_in_", None)
    return {
        **described(transformer),
        "attributes": {name: getattr(transformer, name) for name in transformer._kept_attributes},
        "feature_names_in_": None if names is None else names.tolist(),
        "pixels": {
            "usual": pixels.usual,
            "n_images": pixels.n_images,
            "dtype": str(pixels.dtype),
        },
        "module": dict(net.module_.state_dict()),
        **net.kept(),
    }


def restore(transformer: Any, values: dict[str, Any]) -> Any:
    """Restore in a transformer what :func:`state_of` gave, except the arguments."""
    transformer._validate()
    shape = tuple(values["attributes"]["image_shape_"])
    channels, described = shape[2], values["pixels"]
    if len(values["module"]["pixels.base"]) != channels:
        raise ValueError(f"image_shape_ is {shape}, but pixels are of other channels")
    _check_size(shape)  # a blank image is passed through the network
    pixels = PixelRange(
        torch.zeros(channels),
        torch.ones(channels),
        [0.0] * channels,
        usual=tuple(described["usual"]),
        n_images=described["n_images"],
        dtype=_number_type(described["dtype"]),
    )
    cpu, blank = torch.device("cpu"), ([0.0] * channels, [1.0] * channels)
    plainly = transformer._plainly()
    plainly._filled = False
    bounded = NoLargerThan(values["module"].values(), math.prod(shape))
    with isolated(cpu, seed=0), bounded, warnings.catch_warnings(action="ignore"):
        net = plainly._assemble(
            pixels, *blank, shape, described["n_images"], values.get("batch_size"), cpu
        )
    with own_settings(cpu):
        net.module_.load_state_dict(values["module"])
        net.restore(values)
    learned = vars(transformer)
    if (names := values["feature_names_in_"]) is not None:
        learned["feature_names_in_"] = np.asarray(names, dtype=object)
    kept = {name: values["attributes"][name] for name in transformer._kept_attributes}
    learned.update(kept, **transformer._learned(net), image_shape_=shape)
    settle(transformer)
    return transformer


def settle(transformer: Any) -> None:
    """Move a restored net to the device that was asked for, or with a warning to the CPU."""
    try:
        transformer.device_ = resolve_device(transformer.device)
    except ValueError as error:
        warn(f"{error}; using the CPU", UnavailableDeviceWarning)
        transformer.device_ = torch.device("cpu")
    transformer.net_.move_to(transformer.device_)


def backbone_state_dict(transformer: Any) -> dict[str, Tensor]:
    """Return the weights of a transformer's network, by the names of the library it is from."""
    if not isinstance(encoder := transformer.encoder_, BackboneEncoder):
        raise ValueError(
            f"{type(transformer).__name__} has a {type(encoder).__name__}, which is not one "
            "network; take the parts of encoder_ that you need"
        )
    state = {name: value.cpu().clone() for name, value in encoder.backbone.state_dict().items()}
    return original_names(transformer.encoder, state)


def _number_type(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} is no type of numbers")
    return dtype


def _check_size(image_shape: tuple[int, ...]) -> None:
    if math.prod(image_shape) > _LARGEST_IMAGE:
        raise ValueError(
            f"image_shape_ is {image_shape}, and files of this package are for images of up to "
            f"{_LARGEST_IMAGE:,} values; a pickle has no such limit"
        )
