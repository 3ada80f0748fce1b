"""Histograms of the colors of images, over a learned palette."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, argument, plain
from sklearn_ssl._utils._torch import deterministic_kernels
from sklearn_ssl.base import FrozenTransformer
from sklearn_ssl.encoders import Encoder, FeatureSpec, pool_features, size_for
from sklearn_ssl.fixed._patch_dictionary import cluster
from sklearn_ssl.nn import resize_images

_IMAGES_SEEN = 10_000
_PIXELS_SEEN = 100_000


class HistogramEncoder(Encoder):
    """Encoder with one layer, ``"colors"``: 1 for the palette's nearest color and 0 for others.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels of the images.
    input_size : tuple of int
        Height and width to which images are resized.
    n_colors : int
    """

    palette: Tensor
    default_layer = "colors"

    def __init__(
        self, image_shape: tuple[int, int, int], input_size: tuple[int, int], n_colors: int
    ):
        super().__init__()
        self.image_shape = image_shape
        self.input_size = input_size
        self.layers = {"colors": (n_colors, *input_size)}
        self.register_buffer("palette", torch.zeros(n_colors, image_shape[2]))

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute which color is the nearest (n, n_colors, rows, columns), for each layer."""
        colors = torch.arange(len(self.palette), device=images.device)
        found = (self._nearest(images)[:, None] == colors[:, None, None]).float()
        return [found for _ in layers]

    def _features(self, images: Tensor, spec: FeatureSpec) -> Tensor:
        if all(pool in ("avg", 1) for _, pool in spec):  # counts are much faster than maps
            nearest = self._nearest(images).flatten(1)
            counts = images.new_zeros((nearest.shape[0], len(self.palette)))
            counts = counts.scatter_add(1, nearest, torch.ones_like(nearest, dtype=counts.dtype))
            parts = [counts / nearest.shape[1]] * len(spec)
        else:
            [found] = self.maps(images, "colors")
            parts = [pool_features(found, pool) for _, pool in spec]
        return torch.cat(parts, dim=1).sqrt()

    def _nearest(self, images: Tensor) -> Tensor:
        """Return the number of the nearest color of each pixel, (n, rows, columns)."""
        images = resize_images(images.float(), self.input_size)
        with torch.autocast(images.device.type, enabled=False):
            products = images.permute(0, 2, 3, 1) @ self.palette.T
            return (products - 0.5 * self.palette.square().sum(1)).argmax(-1)


class ColorHistogram(FrozenTransformer):
    """Shares of the colors of a learned palette in an image [1]_.

    The palette consists of the k-means centers of the colors of pixels. Features are the square
    roots of shares, whose distances suit histograms better. It ignores shapes. Learners and
    :class:`PatchDictionary` ignore brightness and, in part, color: where these matter, as in
    stained tissue or satellite images, it complements them. Channels may be of any kind: with one,
    it is a histogram of intensities.

    Parameters
    ----------
    n_colors : int, default=64
        Size of the palette.
    input_size : int, (int, int) or None, default=32
        Size of the copies whose pixels are counted: the shorter side, or height and width. Smaller
        images, and all images with ``None``, keep their size.
    n_iter : int, default=10
        Number of k-means iterations.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pixels and initial colors.
    pool : {"avg", "max"}, int, None or list of these, default=1
        Grid of cells with a histogram each: 1 is the whole image.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        Torch module that accepts images in [0, 1]; ``encoder_.palette`` has a color per row.
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

    References
    ----------
    .. [1] Swain & Ballard (1991), Color Indexing, https://doi.org/10.1007/BF00130487

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_ssl import ColorHistogram
    >>> X = [image[:256, :256] for image in load_sample_images().images]
    >>> features = ColorHistogram(n_colors=16, random_state=0).fit_transform(X)
    >>> features.shape
    (2, 16)
    >>> (features**2).sum(1).round(4).tolist()
    [1.0, 1.0]
    """

    n_colors: int = argument(COUNT, default=64)
    input_size: int | Sequence[int] | None = argument(COUNT, tuple, list, None, default=32)
    n_iter: int = argument(COUNT, default=10)
    random_state: int | None = argument("random_state", default=None)
    pool: str | int | Sequence[str | int | None] | None = 1

    def _make_encoder(self, image_shape, mean, std):
        size = plain(self.input_size)
        if isinstance(size, int):
            size = min(size, *image_shape[:2])
        return HistogramEncoder(image_shape, size_for(image_shape[:2], size), self.n_colors)

    def _learn(self, net, images):
        encoder, device = net.encoder, torch.device(net.device)
        seen = torch.randperm(len(images), device=device)[:_IMAGES_SEEN].cpu().sort().values
        drawn = []
        with deterministic_kernels(device, self.deterministic):
            for chunk in seen.split(256):
                pixels = net.module_.pixels(images.take(chunk.numpy()).to(device))
                pixels = resize_images(pixels, encoder.input_size).flatten(2).transpose(1, 2)
                each = min(pixels.shape[1], -(-_PIXELS_SEEN // len(seen)))
                places = torch.rand(pixels.shape[:2], device=device).argsort(1)[:, :each]
                rows = torch.arange(len(pixels), device=device)[:, None]
                drawn.append(pixels[rows, places].flatten(0, 1))
            colors = torch.cat(drawn)
            first = torch.randint(len(colors), (self.n_colors,), device=device)
            encoder.palette.copy_(cluster(colors, colors[first], self.n_iter))
