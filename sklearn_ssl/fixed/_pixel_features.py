"""Pixels of small copies of images."""

from collections.abc import Sequence

from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, argument, plain
from sklearn_ssl.base import FrozenTransformer
from sklearn_ssl.encoders import Encoder, size_for
from sklearn_ssl.nn import resize_images


class PixelEncoder(Encoder):
    """Encoder with one layer, ``"pixels"``: the resized image.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels of the images.
    input_size : tuple of int
        Height and width to which images are resized.
    """

    default_layer = "pixels"

    def __init__(self, image_shape: tuple[int, int, int], input_size: tuple[int, int]):
        super().__init__()
        self.image_shape = image_shape
        self.input_size = input_size
        self.layers = {"pixels": (image_shape[2], *input_size)}

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Resize images, for each layer."""
        resized = resize_images(images.float(), self.input_size)
        return [resized for _ in layers]


class PixelFeatures(FrozenTransformer):
    """Pixels of small copies of images, scaled to [0, 1].

    It is the baseline that every representation must beat. Small copies are enough for it: the
    classifiers that work on pixels hardly use fine detail.

    Parameters
    ----------
    input_size : int, (int, int) or None, default=16
        Size of the copies: the shorter side, or height and width. Smaller images, and all images
        with ``None``, keep their size.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        Torch module that accepts images in [0, 1].
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Device of the module.
    skipped_ : dict of int to str
        Rows whose files :meth:`fit` could not read, and why, with ``on_error="skip"``.
    n_features_in_ : int
        Number of values per image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if ``X`` was a data frame.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_ssl import PixelFeatures
    >>> X = [image[:256, :256] for image in load_sample_images().images]
    >>> PixelFeatures().fit_transform(X).shape
    (2, 768)
    """

    input_size: int | Sequence[int] | None = argument(COUNT, tuple, list, None, default=16)
    pool: str | int | Sequence[str | int | None] | None = None

    def _make_encoder(self, image_shape, mean, std):
        size = plain(self.input_size)
        if isinstance(size, int):
            size = min(size, *image_shape[:2])
        return PixelEncoder(image_shape, size_for(image_shape[:2], size))
