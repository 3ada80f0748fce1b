"""A dictionary of whitened patches: features in seconds, without a training by gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE, POSITIVE, argument, plain
from sklearn_ssl._utils._device import deterministic_kernels
from sklearn_ssl._utils._messages import warn
from sklearn_ssl.base import FrozenTransformer
from sklearn_ssl.base._image_arguments import FeatureArguments
from sklearn_ssl.clustering._encoder import DictionaryEncoder
from sklearn_ssl.encoders import size_for
from sklearn_ssl.exceptions import CollapseWarning
from sklearn_ssl.images import Images

__all__ = ["PatchDictionary"]

_IMAGES_SEEN = 10_000
_ROWS_AT_ONCE = 2**12
_NO_CONTRAST = 1e-6  # largest variance of normalized patches; those of images have about 1


class PatchDictionary(FeatureArguments, FrozenTransformer):
    """Similarity of an image's patches to a learned dictionary of patches [1]_.

    Patches are normalized for contrast and whitened; atoms are the centers that k-means finds among
    them, or some of them. Features are how much each atom responds to the patches of each cell of
    a grid. There is nothing to train by gradients, so that it is fitted in seconds, and on small
    images it is hard to beat in so little time. It knows no objects: with more time, or large
    images, learners go further, and the features of both together mostly further still.

    Unlike in the paper, the soft threshold is that of the cosine between a whitened patch and an
    atom, not of their product, which was better on CIFAR-10.

    Parameters
    ----------
    n_atoms : int, default=400
        Size of the dictionary. More are better, and take as much more time.
    patch_size : int, default=6
        Side of a patch in pixels, cut to the sides of smaller images.
    stride : int, default=1
        Step in pixels from one patch to the next.
    input_size : int, (int, int) or None, default=None
        Size to which images are resized: of the shorter side, or height and width. Patches of
        small images see more of what is on them, and there are less.
    atoms : {"kmeans", "patches"}, default="kmeans"
        Centers of clusters of patches, or patches as they come.
    activation : {"soft_threshold", "triangle", "nearest"}, default="soft_threshold"
        By how much the cosine with an atom is above a threshold; by how much an atom is nearer than
        all are on average [1]_; or 1 for the nearest and 0 for others.
    threshold : float, default=1.0
        Threshold of the cosine, in units of what it is for random patches: one over the root of the
        number of values in a patch.
    n_nearest : int, default=40
        How many atoms are the nearest, for ``activation="nearest"``.
    regularization : float, default=0.1
        Added to the variances before whitening, where those of normalized pixels are 1.
    n_patches : int, default=100000
        Number of patches that are learned from, out of at most 10,000 images.
    n_iter : int, default=10
        Iterations of k-means.
    random_state : int, RandomState instance or None, default=None
        Draws the patches and the first atoms.
    <shared parameters>

    Attributes
    ----------
    encoder_ : Encoder
        Takes images in [0, 1]; ``encoder_.atoms`` are whitened patches, one a row.
    image_shape_ : tuple of int
        Height, width and channels of the images.
    device_ : torch.device
        Where the dictionary is.
    skipped_ : dict of int to str
        Rows whose files could not be read in :meth:`fit`, with ``on_error="skip"``.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of a data frame.

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
            raise ValueError(f"n_nearest={self.n_nearest} is more than n_atoms={self.n_atoms}")
        return DictionaryEncoder(
            image_shape,
            size_for(image_shape[:2], plain(self.input_size)),
            self.patch_size,
            self.stride,
            self.n_atoms,
            self.activation,
            self.threshold,
            self.n_nearest,
        )

    def _learn(self, net, images):
        encoder, device = net.encoder, torch.device(net.device)
        with deterministic_kernels(device, self.deterministic):
            patches = self._draw_patches(net, images)
            # their mean is almost zero, as that of each patch is
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

        found = self._apply(features, images, finish=finish)
        if flat and torch.cat(flat).all():
            _warn_of_no_contrast(len(images))
        return found

    def _draw_patches(self, net: Any, images: Images) -> Tensor:
        """Draw normalized patches (n_patches, d), in random order."""
        encoder, device = net.encoder, torch.device(net.device)
        rows, columns = encoder.grid
        if (found := len(images) * rows * columns) < self.n_atoms:
            raise ValueError(
                f"n_atoms={self.n_atoms} is more than the {found} patches that X has; lower it, or "
                f"patch_size={self.patch_size}"
            )
        seen = torch.randperm(len(images), device=device)[:_IMAGES_SEEN].cpu().sort().values
        each = -(-max(self.n_patches, self.n_atoms) // len(seen))
        each = min(each, rows * columns)
        drawn = []
        for chunk in seen.split(256):
            pixels = net.module_.pixels(images.take(chunk.numpy()).to(device))
            places = torch.rand(len(chunk), rows * columns, device=device).argsort(1)[:, :each]
            drawn.append(encoder.normalized(encoder.resized(pixels), places).flatten(0, 1))
        patches = torch.cat(drawn)
        order = torch.randperm(len(patches), device=device)
        return patches[order[: max(self.n_patches, self.n_atoms)]]


def _warn_of_no_contrast(n_images: int) -> None:
    warn(
        f"each of the {n_images} images is of a single color. Patches are compared without their "
        "mean, so nothing is left of these, and all features are 0 or noise. Look at how the "
        "images were read and scaled",
        CollapseWarning,
    )


def cluster(patches: Tensor, centers: Tensor, n_iter: int) -> Tensor:
    """Find centers (k, d) of clusters of patches (n, d), by iterations of Lloyd's algorithm.

    Centers that are nearest to no patch are replaced by random patches.
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
