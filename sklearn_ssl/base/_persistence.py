"""Export of a fitted learner: to files, and to modules of torch."""

import math
import os
import warnings
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._utils._bounds import NoLargerThan
from sklearn_ssl._utils._device import resolve_device
from sklearn_ssl._utils._isolation import isolated, own_settings
from sklearn_ssl._utils._messages import warn
from sklearn_ssl.base._saved import Rebuild, SavedMixin
from sklearn_ssl.encoders import BackboneEncoder, original_names
from sklearn_ssl.exceptions import UnavailableDeviceWarning
from sklearn_ssl.images import PixelRange
from sklearn_ssl.inference import FeatureExtractor, write_onnx

__all__ = ["PersistenceMixin"]

_LARGEST_IMAGE = 2**26  # values: 4,729 x 4,729 pixels in color


class PersistenceMixin(SavedMixin):
    """Mixin for saving and restoring, ``to_torch``, ``export_onnx`` and ``backbone_state_dict``."""

    _kept_attributes: ClassVar[tuple[str, ...]] = ("image_shape_", "n_features_in_", "skipped_")

    _arguments: Any
    _assemble: Any
    _learned: Any
    _wanted: Any
    _plainly: Any
    _validate: Any
    __sklearn_is_fitted__: Any
    device: Any
    encoder: Any
    encoder_: Any
    image_shape_: Any
    net_: Any
    pool: Any
    skipped_: Any

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Move to the device that was asked for, or with a warning to the CPU if it is missing."""
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():
            self._settle()

    def _settle(self) -> None:
        try:
            self.device_ = resolve_device(self.device)
        except ValueError as error:
            warn(f"{error}; using the CPU", UnavailableDeviceWarning)
            self.device_ = torch.device("cpu")
        self.net_.move_to(self.device_)

    def _state(self) -> dict[str, Any]:
        """Return what :meth:`save` writes: arguments, and what was learned."""
        net, pixels = self.net_, self.net_.module_.pixels
        _check_size(self.image_shape_)
        names = getattr(self, "feature_names_in_", None)
        return {
            **self._described(),
            "attributes": {name: getattr(self, name) for name in self._kept_attributes},
            "feature_names_in_": None if names is None else names.tolist(),
            "pixels": {
                "usual": pixels.usual,
                "n_images": pixels.n_images,
                "dtype": str(pixels.dtype),
            },
            "module": dict(net.module_.state_dict()),
            **net.kept(),
        }

    def _restore(self, values: dict[str, Any], rebuild: Rebuild | None = None) -> Self:
        """Restore in this learner what :meth:`_state` gave, except the arguments."""
        self._validate()
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
        plainly = self._plainly()
        plainly._filled = False
        bounded = NoLargerThan(values["module"].values(), math.prod(shape))
        with isolated(cpu, seed=0), bounded, warnings.catch_warnings(action="ignore"):
            net = plainly._assemble(
                pixels, *blank, shape, described["n_images"], values.get("batch_size"), cpu
            )
        with own_settings(cpu):
            net.module_.load_state_dict(values["module"])
            net.restore(values)
        if (names := values["feature_names_in_"]) is not None:
            self.__dict__["feature_names_in_"] = np.asarray(names, dtype=object)
        kept = {name: values["attributes"][name] for name in self._kept_attributes}
        self.__dict__.update(kept, **self._learned(net), image_shape_=shape)
        self._settle()
        return self

    def to_torch(self) -> nn.Module:
        """Return the features of ``layer``, pooled by ``pool``, as a module of torch alone.

        It is a copy, on the CPU, in evaluation mode and float32, and has no hooks. It can be traced
        and exported (``torch.export``), if the encoder is one of ours, of torchvision or timm, or
        an ``nn.Sequential``.

        Returns
        -------
        nn.Module
            Takes pixels (n, channels, height, width) in the range of those of the fit, in any type,
            and gives features (n, n_features_out), float32.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_ssl import SimCLR
        >>> X = load_digits().images[:64]
        >>> ssl = SimCLR(max_epochs=1, random_state=0, precision="float32").fit(X)
        >>> features = ssl.to_torch()(torch.from_numpy(X)[:, None])
        >>> torch.allclose(features, torch.from_numpy(ssl.transform(X)), atol=1e-5)
        True
        """
        check_is_fitted(self)
        wanted = self._wanted(self.encoder_)
        with own_settings(torch.device("cpu")):
            pixels = self.net_.module_.pixels
            return FeatureExtractor(pixels, self.encoder_, wanted, self.mirror)

    def export_onnx(self, path: str | os.PathLike) -> None:
        """Write what :meth:`to_torch` gives as an ONNX model, for any number of images.

        Its input is called ``pixels``: of type uint8 if the learner was fitted to such, else
        float32. Its output is called ``features``.

        Parameters
        ----------
        path : str or path
            Its folder is made if it is missing.

        Raises
        ------
        ImportError
            Without ``pip install 'sklearn-ssl[onnx]'``.
        """
        write_onnx(self.to_torch(), path, self._example(), "pixels", "features")

    def _example(self) -> Tensor:
        """Return two blank images, as :meth:`to_torch` takes them."""
        height, width, channels = self.image_shape_
        uint8 = self.net_.module_.pixels.dtype == "uint8"
        dtype = torch.uint8 if uint8 else torch.float32
        return torch.zeros(2, channels, height, width, dtype=dtype)

    def backbone_state_dict(self) -> dict[str, Tensor]:
        """Return the trained network's weights, named as in torchvision or timm if from there.

        Returns
        -------
        dict of str to Tensor
            For ``load_state_dict`` of the network without its classifier, as ``model.fc =
            nn.Identity()`` makes it of torchvision's, and ``num_classes=0`` of timm's.

        Raises
        ------
        ValueError
            For methods whose encoder holds several networks, or sees patches.
        """
        check_is_fitted(self)
        if not isinstance(self.encoder_, BackboneEncoder):
            raise ValueError(
                f"{type(self).__name__} has a {type(self.encoder_).__name__}, which is not one "
                "network; take the parts of encoder_ that you need"
            )
        state = self.encoder_.backbone.state_dict()
        return original_names(self.encoder, {k: v.cpu().clone() for k, v in state.items()})


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
