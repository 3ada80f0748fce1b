"""Similarities of patches to a learned dictionary of patches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    StrOptions,
    argument,
    plain,
)
from sklearn_ssl._utils._messages import warn
from sklearn_ssl._utils._torch import deterministic_kernels
from sklearn_ssl.base import FrozenTransformer, apply
from sklearn_ssl.encoders import Encoder, FeatureSpec, pool_features, size_for
from sklearn_ssl.exceptions import CollapseWarning
from sklearn_ssl.images import Images
from sklearn_ssl.nn import resize_images

_LEAST_VARIANCE = 10 / 255**2  # of a patch, so that noise is not amplified
_BYTES_AT_ONCE = 2**24  # of responses; the allocator does not reuse larger blocks


class DictionaryEncoder(Encoder):
    """Encoder with one layer, ``"patches"``: responses of atoms to all patches of an image.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels.
    dictionary : PatchDictionary
        Transformer whose arguments describe the patches, which are clipped to the sides of smaller
        images, and the responses.
    """

    whitening: Tensor
    atoms: Tensor
    default_layer = "patches"

    def __init__(self, image_shape: tuple[int, int, int], dictionary: "PatchDictionary"):
        super().__init__()
        self.image_shape = image_shape
        self.input_size = size_for(image_shape[:2], plain(dictionary.input_size))
        height, width = self.input_size
        self.patch = (min(dictionary.patch_size, height), min(dictionary.patch_size, width))
        self.stride = dictionary.stride
        self.activation = dictionary.activation
        self.threshold = dictionary.threshold
        self.n_nearest = dictionary.n_nearest
        rows = (height - self.patch[0]) // self.stride + 1
        columns = (width - self.patch[1]) // self.stride + 1
        self.grid = (rows, columns)
        self.layers = {"patches": (dictionary.n_atoms, rows, columns)}
        d = image_shape[2] * self.patch[0] * self.patch[1]
        self.register_buffer("whitening", torch.eye(d))
        self.register_buffer("atoms", torch.zeros(dictionary.n_atoms, d))

    # Patches

    def windows(self, images: Tensor) -> Tensor:
        """Return a view (n, rows, columns, c, patch height, patch width) of images (n, c, h, w)."""
        for dim, size in enumerate(self.patch):
            images = images.unfold(2 + dim, size, self.stride)
        return images.permute(0, 2, 3, 1, 4, 5)

    def normalized(self, images: Tensor, places: Tensor) -> Tensor:
        """Return patches (n, m, d) at positions (n, m) of images, with mean 0 and variance 1."""
        windows = self.windows(images).flatten(1, 2)
        patches = windows[torch.arange(images.shape[0], device=images.device)[:, None], places]
        variance, mean = torch.var_mean(patches.flatten(2), -1, keepdim=True, correction=0)
        return (patches.flatten(2) - mean) * (variance + _LEAST_VARIANCE).rsqrt()

    # Responses

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute responses (n, n_atoms, rows, columns), for each layer."""
        images = resize_images(images.float(), self.input_size)
        responses = self._respond(images, *self._matrices(images))
        return [responses for _ in layers]

    def _features(self, images: Tensor, wanted: FeatureSpec) -> Tensor:
        """Compute pooled features (n, d), a few images at a time."""
        images = resize_images(images.float(), self.input_size)
        matrices = self._matrices(images)

        def pooled(images: Tensor) -> Tensor:
            responses = self._respond(images, *matrices)
            parts = [pool_features(responses, pool).float() for _, pool in wanted]
            return torch.cat(parts, dim=1)

        size = self._at_once(images)
        if size == images.shape[0]:
            return pooled(images)
        return torch.cat([pooled(chunk) for chunk in images.split(size)])

    def _matrices(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return prepared whitening filters (d, c * patch width, patch height, 1) and atoms."""
        device = images.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        filters = (self.whitening - self.whitening.mean(0)).T  # also subtract the patch mean
        atoms = self.atoms
        if self.activation == "soft_threshold":  # append the threshold as a weight: saves a pass
            below = torch.full_like(atoms[:, :1], -self.threshold * atoms.shape[1] ** -0.5)
            atoms = F.pad(torch.cat([atoms, below], dim=1), (0, -(atoms.shape[1] + 1) % 16))
            filters = F.pad(filters, (0, 0, 0, atoms.shape[1] - len(filters)))
        filters = filters.unflatten(1, (self.image_shape[2], *self.patch))
        filters = filters.permute(0, 1, 3, 2).flatten(1, 2)[..., None]
        filters = filters.to(dtype or filters.dtype, memory_format=torch.channels_last)
        return filters, atoms.to(filters.dtype)

    def _respond(self, images: Tensor, filters: Tensor, atoms: Tensor) -> Tensor:
        """Compute responses (n, n_atoms, rows, columns), channels last, in the filters' dtype."""
        with torch.autocast(images.device.type, enabled=False):
            # rows of windows become channels: convolutions of few channels are slow
            pixels = (images - 0.5).to(filters.dtype).permute(0, 2, 3, 1)
            rows = pixels.unfold(2, self.patch[1], self.stride).flatten(3).permute(0, 3, 1, 2)
            z = F.conv2d(rows, filters, stride=(self.stride, 1)).permute(0, 2, 3, 1).flatten(0, 2)
            if self.activation == "triangle":
                responses = self._triangle(z * self._scale(images), atoms)
            elif self.activation == "nearest":
                responses = self._nearest(z, atoms)
            else:
                responses = self._above(z, atoms)
        return responses.unflatten(0, (-1, *self.grid)).permute(0, 3, 1, 2)

    def _above(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Return how far each cosine is above the threshold, or 0."""
        d = self.whitening.shape[0]
        square = torch.linalg.vector_norm(z, dim=1, keepdim=True).float().square()
        z = z * (square + d * _LEAST_VARIANCE).rsqrt().to(z.dtype)
        z[:, d] = 1
        responses = z @ atoms.T
        if responses.dtype == torch.bfloat16:  # clamp bits as integers: four times as fast
            return responses.view(torch.int16).clamp_(min=0).view(torch.bfloat16)
        return responses.relu_()

    def _nearest(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Return 1 for the nearest atoms and 0 for all others."""
        cosines = z @ atoms.T
        least = cosines.topk(self.n_nearest, dim=1).values[:, -1:]
        return (cosines >= least).to(z.dtype)

    def _triangle(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Return how much nearer each atom is than the average atom, or 0."""
        distances = (z.to(atoms.dtype) @ atoms.T).float()
        distances.mul_(-2).add_(z.float().square().sum(1, keepdim=True))  # in place: large
        distances.add_(atoms.float().square().sum(1)).clamp_(min=0).sqrt_()
        average = distances.mean(1, keepdim=True)
        if distances.requires_grad:  # the gradient of sqrt_ needs its result
            return (average - distances).relu().to(atoms.dtype)
        return distances.neg_().add_(average).relu_().to(atoms.dtype)

    def _scale(self, images: Tensor) -> Tensor:
        """Return 1 / standard deviation of each patch, (positions, 1)."""
        moments = torch.stack([images.mean(1), images.square().mean(1)], dim=1)
        mean, square = F.avg_pool2d(moments, self.patch, self.stride).flatten(2).unbind(1)
        variance = (square - mean.square()).clamp(min=0)
        return (variance + _LEAST_VARIANCE).rsqrt().flatten()[:, None]

    def _at_once(self, images: Tensor) -> int:
        """Return the images per chunk, a divisor of n: low-order bits depend on the shape."""
        n = images.shape[0]
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return n
        bytes_a_value = 4 if self.activation == "triangle" else 2  # distances are in float32
        bytes_an_image = bytes_a_value * self.layers["patches"][0] * self.grid[0] * self.grid[1]
        most = max(1, min(n, _BYTES_AT_ONCE // bytes_an_image))
        return next(size for size in range(most, 0, -1) if n % size == 0)


_IMAGES_SEEN = 10_000
_ROWS_AT_ONCE = 2**12
_NO_CONTRAST = 1e-6  # largest variance of flat patches; normalized patches have about 1


class PatchDictionary(FrozenTransformer):
    """Similarities of an image's patches to a learned dictionary of patches [1]_.

    Patches are contrast-normalized and whitened; atoms are their k-means centers, or some of the
    patches. Features are the responses of each atom to the patches, pooled over each cell of a
    grid. There is no gradient training: it is fitted in seconds, and on small images it is hard to
    beat in so little time. It captures texture, not objects: with more time or on large images,
    learners win, and combining both usually wins further.

    Unlike in [2]_, the soft threshold applies to the cosine of a whitened patch and an atom, not to
    their product; this was better on CIFAR-10.

    Parameters
    ----------
    n_atoms : int, default=400
        Size of the dictionary. More atoms are better, but take proportionally more time.
    patch_size : int, default=6
        Side of a patch in pixels, clipped to the sides of smaller images.
    stride : int, default=1
        Step in pixels from one patch to the next.
    input_size : int, (int, int) or None, default=None
        Size to which images are resized: the shorter side, or height and width. In smaller images,
        each patch covers more of the content, and there are fewer patches.
    atoms : {"kmeans", "patches"}, default="kmeans"
        Cluster centers of patches, or random patches.
    activation : {"soft_threshold", "triangle", "nearest"}, default="soft_threshold"
        Response of an atom: how far its cosine is above a threshold [2]_; how much nearer it is
        than the average atom [1]_; or 1 for the nearest atoms and 0 for others.
    threshold : float, default=1.0
        Threshold of the cosine, in units of the typical cosine of random patches: 1 over the square
        root of the number of values in a patch.
    n_nearest : int, default=40
        Number of atoms that count as nearest, for ``activation="nearest"``.
    regularization : float, default=0.1
        Constant added to the variances before whitening; those of normalized pixels are 1.
    n_patches : int, default=100000
        Number of patches to learn from, drawn from at most 10,000 images.
    n_iter : int, default=10
        Number of k-means iterations.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing the patches and the initial atoms.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        Torch module that accepts images in [0, 1]; ``encoder_.atoms`` has a whitened patch per row.
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Device of the dictionary.
    skipped_ : dict of int to str
        Rows whose files :meth:`fit` could not read, and why, with ``on_error="skip"``.
    n_features_in_ : int
        Number of values per image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Column names, if ``X`` was a data frame.

    References
    ----------
    .. [1] Coates, Lee & Ng (2011), An Analysis of Single-Layer Networks in Unsupervised Feature
       Learning, http://proceedings.mlr.press/v15/coates11a.html
    .. [2] Coates & Ng (2011), The Importance of Encoding Versus Training with Sparse Coding and
       Vector Quantization, https://icml.cc/2011/papers/485_icmlpaper.pdf

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import PatchDictionary
    >>> X = load_digits().images
    >>> dictionary = PatchDictionary(n_atoms=50, patch_size=5, pool=2, random_state=0)
    >>> dictionary.fit_transform(X).shape
    (1797, 200)
    """

    n_atoms: int = argument(COUNT, default=400)
    patch_size: int = argument(COUNT, default=6)
    stride: int = argument(COUNT, default=1)
    input_size: int | Sequence[int] | None = argument(COUNT, tuple, list, None, default=None)
    atoms: str = argument(StrOptions({"kmeans", "patches"}), default="kmeans")
    activation: str = argument(
        StrOptions({"soft_threshold", "triangle", "nearest"}), default="soft_threshold"
    )
    threshold: float = argument(NOT_NEGATIVE, default=1.0)
    n_nearest: int = argument(COUNT, default=40)
    regularization: float = argument(POSITIVE, default=0.1)
    n_patches: int = argument(COUNT, default=100_000)
    n_iter: int = argument(COUNT, default=10)
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    def _make_encoder(self, image_shape, mean, std):
        if self.activation == "nearest" and self.n_nearest > self.n_atoms:
            raise ValueError(
                f"n_nearest={self.n_nearest} is more than n_atoms={self.n_atoms}; lower n_nearest"
            )
        return DictionaryEncoder(image_shape, self)

    def _learn(self, net, images):
        encoder, device = net.encoder, torch.device(net.device)
        with deterministic_kernels(device, self.deterministic):
            patches = self._draw_patches(net, images)
            # their mean is nearly zero, as each patch has mean zero
            values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
            if values.max() < _NO_CONTRAST:
                _warn_of_no_contrast(len(images))
            scales = (values.clamp(min=0) + self.regularization).rsqrt()
            encoder.whitening.copy_(vectors * scales @ vectors.T)
            patches = patches @ encoder.whitening
            atoms = patches[: self.n_atoms]
            if self.atoms == "kmeans":
                atoms = cluster(patches, atoms, self.n_iter)
            if self.activation != "triangle":
                atoms = F.normalize(atoms, dim=1)
            encoder.atoms.copy_(atoms)

    def _encode(self, images, wanted, finish=None):
        encoder, mirror, flat = self.encoder_, self.mirror, []

        def features(pixels: Tensor) -> Tensor:
            flat.append((pixels.amax((2, 3)) == pixels.amin((2, 3))).all(1))
            return encoder.features(pixels, wanted, mirror)

        def compared(pixels: Tensor) -> Tensor:
            return encoder.features(pixels, wanted, mirror)

        found = apply(
            self.net_, features, images, finish=finish, shown_by=(compared, wanted, mirror)
        )
        if flat and torch.cat(flat).all():
            _warn_of_no_contrast(len(images))
        return found

    def _draw_patches(self, net: Any, images: Images) -> Tensor:
        """Draw normalized patches (n_patches, d), in random order."""
        encoder, device = net.encoder, torch.device(net.device)
        rows, columns = encoder.grid
        if (found := len(images) * rows * columns) < self.n_atoms:
            raise ValueError(
                f"n_atoms={self.n_atoms} is more than the {found} patches in X; lower it, or "
                f"patch_size={self.patch_size}"
            )
        seen = torch.randperm(len(images), device=device)[:_IMAGES_SEEN].cpu().sort().values
        each = -(-max(self.n_patches, self.n_atoms) // len(seen))
        each = min(each, rows * columns)
        drawn = []
        for chunk in seen.split(256):
            pixels = net.module_.pixels(images.take(chunk.numpy()).to(device))
            pixels = resize_images(pixels, encoder.input_size)
            places = torch.rand(len(chunk), rows * columns, device=device).argsort(1)[:, :each]
            drawn.append(encoder.normalized(pixels, places).flatten(0, 1))
        patches = torch.cat(drawn)
        order = torch.randperm(len(patches), device=device)
        return patches[order[: max(self.n_patches, self.n_atoms)]]


def _warn_of_no_contrast(n_images: int) -> None:
    warn(
        f"each of the {n_images} images is of a single color. Patches are compared without their "
        "mean, so all features are 0 or noise. Check how the images were read and scaled",
        CollapseWarning,
    )


def cluster(patches: Tensor, centers: Tensor, n_iter: int) -> Tensor:
    """Return the cluster centers (k, d) of patches (n, d) that Lloyd's algorithm finds.

    Centers of empty clusters are replaced by random patches.
    """
    for _ in range(n_iter):
        biases = -0.5 * centers.square().sum(1)
        nearest = torch.cat(
            [
                torch.addmm(biases, rows, centers.T).argmax(1)
                for rows in patches.split(_ROWS_AT_ONCE)
            ]
        )
        sums = torch.zeros_like(centers).index_add_(0, nearest, patches)
        counts = torch.bincount(nearest, minlength=len(centers))[:, None]
        others = patches[torch.randint(len(patches), (len(centers),), device=patches.device)]
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), others)
    return centers
