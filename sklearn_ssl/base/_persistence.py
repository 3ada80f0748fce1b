"""Saving and restoring of fitted networks, and their conversion to pure torch modules."""

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
from sklearn_ssl.encoders import BackboneEncoder, FeatureSpec, original_names
from sklearn_ssl.exceptions import UnavailableDeviceWarning
from sklearn_ssl.images import PixelRange
from sklearn_ssl.nn import ChannelScaling, resize_images

_LARGEST_IMAGE = 2**26  # values: 4,729 x 4,729 pixels in color
_SOME = 2**27  # allowance for parts that are built and dropped: the head of VGG-19 has 1.2e8 values
_MADE = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


class NoLargerThan(TorchFunctionMode):
    """Torch function mode that prevents building networks much larger than the given tensors.

    A few bytes in a file can name a network, or a number of units, that exhausts the memory. In
    this mode, the first layer that is too large raises ValueError before its memory is touched.

    Parameters
    ----------
    tensors : iterable of Tensor
        Parameters and buffers to be loaded into the network.
    image : int
        Number of values per image; blank images may be passed through the network.
    """

    def __init__(self, tensors: Iterable[Tensor], image: int):
        super().__init__()
        self.left = 2 * sum(tensor.numel() for tensor in tensors) + _SOME
        self.at_once = self.left + 8 * image

    def __enter__(self) -> Self:
        thread = get_ident()  # torch calls the hook in all threads

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
        raise ValueError("the arguments describe a network that is larger than the one in the file")


class FeatureExtractor(nn.Module):
    """Module that computes the features of layers from pixels in a learner's input range.

    It contains a copy of the encoder, on the CPU and in evaluation mode.

    Parameters
    ----------
    pixels : PixelRange
        Scaling of pixels to [0, 1].
    encoder : Encoder
    spec : list of (str, pool)
        Layers, each with its ``pool`` for :func:`pool_features`.
    mirror : bool
        Whether to average the features of an image and its mirror image.
    size : (int, int), optional
        (height, width) to which images are resized for the encoder.
    """

    origin: Tensor

    def __init__(
        self,
        pixels: PixelRange,
        encoder: Any,
        spec: FeatureSpec,
        mirror: bool,
        size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.scaling = ChannelScaling(pixels.offset.flatten(), pixels.scale.flatten())
        self.register_buffer("origin", pixels.base.view(1, -1, 1, 1).clone())
        self.is_far = pixels.origin is not None
        self.encoder = copy.deepcopy(encoder)
        self.spec = spec
        self.mirror = mirror
        self.size = size
        self.requires_grad_(False).cpu().eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features (n, d), float32, of pixels (n, c, h, w) of any dtype."""
        if self.is_far:
            pixels = pixels.double() - self.origin.double()
        images = resize_images(self.scaling(pixels.float()), self.size)
        return self.encoder.features(images, self.spec, self.mirror)


# Saving and restoring; the network is rebuilt and its weights loaded


def state_of(transformer: Any) -> dict[str, Any]:
    """Return what ``save`` writes for a transformer: its arguments and learned state."""
    net, pixels = transformer.net_, transformer.net_.module_.pixels
    _check_size(transformer.image_shape_)
    names = getattr(transformer, "feature_names_in_", None)
    return {
        **described(transformer),
        "attributes": {name: getattr(transformer, name) for name in transformer._saved_attributes},
        "feature_names_in_": None if names is None else names.tolist(),
        "pixels": {"usual": pixels.usual, "n_images": pixels.n_images, "dtype": str(pixels.dtype)},
        "module": dict(net.module_.state_dict()),
        **net.state(),
    }


def restore(transformer: Any, values: dict[str, Any], rebuild: Any = None) -> Any:
    """Restore the state returned by :func:`state_of` in a transformer, except the arguments.

    ``rebuild`` is for estimators that hold others, and not used.
    """
    transformer._validate()
    shape = tuple(values["attributes"]["image_shape_"])
    channels, described = shape[2], values["pixels"]
    if len(values["module"]["pixels.base"]) != channels:
        raise ValueError(f"image_shape_ is {shape}, but pixels have other channels")
    _check_size(shape)  # a blank image is passed through the network
    dtype = np.dtype(described["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"{dtype} is not a numeric dtype")
    pixels = PixelRange(
        torch.zeros(channels),
        torch.ones(channels),
        [0.0] * channels,
        usual=tuple(described["usual"]),
        n_images=described["n_images"],
        dtype=dtype,
    )
    cpu, blank = torch.device("cpu"), ([0.0] * channels, [1.0] * channels)
    plain_self = transformer._with_python_scalars()
    plain_self._filled = False
    bounded = NoLargerThan(values["module"].values(), math.prod(shape))
    with isolated(cpu, seed=0), bounded, warnings.catch_warnings(action="ignore"):
        encoder = plain_self._make_encoder(shape, *blank)
        net = plain_self._assemble(pixels, encoder, values.get("batch_size"), cpu)
    with own_settings(cpu):
        net.module_.load_state_dict(values["module"])
        net.restore(values)
    learned = vars(transformer)
    if (names := values["feature_names_in_"]) is not None:
        learned["feature_names_in_"] = np.asarray(names, dtype=object)
    kept = {name: values["attributes"][name] for name in transformer._saved_attributes}
    learned.update(kept, **transformer._net_attributes(net), image_shape_=shape)
    settle(transformer)
    return transformer


def settle(transformer: Any) -> None:
    """Move a restored net to the requested device, or to the CPU with a warning."""
    try:
        transformer.device_ = resolve_device(transformer.device)
    except ValueError as error:
        warn(f"{error}; using the CPU", UnavailableDeviceWarning)
        transformer.device_ = torch.device("cpu")
    transformer.net_.move_to(transformer.device_)


def backbone_state_dict(transformer: Any) -> dict[str, Tensor]:
    """Return the weights of a transformer's network, named as in the library it comes from."""
    if not isinstance(encoder := transformer.encoder_, BackboneEncoder):
        raise ValueError(
            f"{type(transformer).__name__} has a {type(encoder).__name__}, which is not a single "
            "network; use the parts of encoder_ that you need"
        )
    state = {name: value.cpu().clone() for name, value in encoder.backbone.state_dict().items()}
    return original_names(transformer.encoder, state)


def _check_size(image_shape: tuple[int, ...]) -> None:
    if math.prod(image_shape) > _LARGEST_IMAGE:
        raise ValueError(
            f"image_shape_ is {image_shape}, but save and load only support images of up to "
            f"{_LARGEST_IMAGE:,} values; use pickle, which has no limit"
        )
