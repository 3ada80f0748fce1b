"""The network of a dictionary of patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl.encoders import Encoder, Pair, pool_features

__all__ = ["DictionaryEncoder"]

_LEAST_VARIANCE = 10 / 255**2  # of a patch, so that noise does not become contrast
_BYTES_AT_ONCE = 2**24  # of responses; what is larger is not kept for the next by the allocator


class DictionaryEncoder(Encoder):
    """Responses of a dictionary's atoms to all patches of an image, one layer ``"patches"``.

    Parameters
    ----------
    image_shape : tuple of int
        Height, width and channels.
    input_size : tuple of int
        Height and width to which images are resized.
    patch_size : int
        Side of a patch; it is cut to the sides of smaller images.
    stride : int
        Step from one patch to the next.
    n_atoms : int
    activation : {"soft_threshold", "triangle", "nearest"}
    threshold : float
        As of :class:`PatchDictionary`.
    n_nearest : int
    """

    whitening: Tensor
    atoms: Tensor
    default_layer = "patches"

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        input_size: tuple[int, int],
        patch_size: int,
        stride: int,
        n_atoms: int,
        activation: str,
        threshold: float,
        n_nearest: int,
    ):
        super().__init__()
        self.image_shape = image_shape
        self.input_size = input_size
        self.patch = (min(patch_size, input_size[0]), min(patch_size, input_size[1]))
        self.stride = stride
        self.activation = activation
        self.threshold = threshold
        self.n_nearest = n_nearest
        rows, columns = (
            (side - patch) // stride + 1 for side, patch in zip(input_size, self.patch, strict=True)
        )
        self.grid = (rows, columns)
        self.layers = {"patches": (n_atoms, rows, columns)}
        d = image_shape[2] * self.patch[0] * self.patch[1]
        self.register_buffer("whitening", torch.eye(d))
        self.register_buffer("atoms", torch.zeros(n_atoms, d))

    # Patches

    def resized(self, images: Tensor) -> Tensor:
        """Resize images to the size that patches are cut from."""
        if tuple(images.shape[2:]) == self.input_size:
            return images
        return F.interpolate(images, self.input_size, mode="bilinear", antialias=True)

    def windows(self, images: Tensor) -> Tensor:
        """Return a view (n, rows, columns, c, patch height, patch width) of images (n, c, h, w)."""
        for dim, size in enumerate(self.patch):
            images = images.unfold(2 + dim, size, self.stride)
        return images.permute(0, 2, 3, 1, 4, 5)

    def normalized(self, images: Tensor, places: Tensor) -> Tensor:
        """Return patches (n, m, d) at places (n, m) of each image, of mean 0 and variance 1."""
        windows = self.windows(images).flatten(1, 2)
        patches = windows[torch.arange(images.shape[0], device=images.device)[:, None], places]
        variance, mean = torch.var_mean(patches.flatten(2), -1, keepdim=True, correction=0)
        return (patches.flatten(2) - mean) * (variance + _LEAST_VARIANCE).rsqrt()

    # Responses

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute responses (n, n_atoms, rows, columns), for each layer."""
        responses = self._respond(self.resized(images.float()), *self._matrices(images))
        return [responses for _ in layers]

    def _features(self, images: Tensor, wanted: list[Pair]) -> Tensor:
        """Compute features (n, d) of pools of the one layer, a few images at once."""
        images = self.resized(images.float())
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
        """Return whitening filters (d, c, patch height, patch width) and atoms, as multiplied."""
        device = images.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        filters = (self.whitening - self.whitening.mean(0)).T  # take the mean of a patch off, too
        atoms = self.atoms
        if self.activation == "soft_threshold":  # what is multiplied by 1 spares a pass for biases
            below = torch.full_like(atoms[:, :1], -self.threshold * atoms.shape[1] ** -0.5)
            atoms = F.pad(torch.cat([atoms, below], dim=1), (0, -(atoms.shape[1] + 1) % 16))
            filters = F.pad(filters, (0, 0, 0, atoms.shape[1] - len(filters)))
        filters = filters.unflatten(1, (self.image_shape[2], *self.patch))
        filters = filters.permute(0, 1, 3, 2).flatten(1, 2)[..., None]
        filters = filters.to(dtype or filters.dtype, memory_format=torch.channels_last)
        return filters, atoms.to(filters.dtype)

    def _respond(self, images: Tensor, filters: Tensor, atoms: Tensor) -> Tensor:
        """Compute responses (n, n_atoms, rows, columns), channels last, in the filters' type."""
        with torch.autocast(images.device.type, enabled=False):
            # windows of a row are channels: convolutions of few channels are slow
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
        """Compute how far cosines are above the threshold, or 0."""
        d = self.whitening.shape[0]
        square = torch.linalg.vector_norm(z, dim=1, keepdim=True).float().square()
        z = z * (square + d * _LEAST_VARIANCE).rsqrt().to(z.dtype)
        z[:, d] = 1
        responses = z @ atoms.T
        if responses.dtype == torch.bfloat16:  # whose sign is that of its bits, four times as fast
            return responses.view(torch.int16).clamp_(min=0).view(torch.bfloat16)
        return responses.relu_()

    def _nearest(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Return 1 for the atoms among the nearest, and 0 for all others."""
        cosines = z @ atoms.T
        least = cosines.topk(self.n_nearest, dim=1).values[:, -1:]
        return (cosines >= least).to(z.dtype)

    def _triangle(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Compute how much nearer each atom is than atoms are on average, or 0."""
        products = (z.to(atoms.dtype) @ atoms.T).float()
        squares = z.float().square().sum(1, keepdim=True) + atoms.float().square().sum(1)
        distances = (squares - 2 * products).clamp_(min=0).sqrt_()
        return (distances.mean(1, keepdim=True) - distances).relu_().to(atoms.dtype)

    def _scale(self, images: Tensor) -> Tensor:
        """Return one over the deviation of each patch, (positions, 1)."""
        moments = torch.stack([images.mean(1), images.square().mean(1)], dim=1)
        mean, square = F.avg_pool2d(moments, self.patch, self.stride).flatten(2).unbind(1)
        variance = (square - mean.square()).clamp(min=0)
        return (variance + _LEAST_VARIANCE).rsqrt().flatten()[:, None]

    def _at_once(self, images: Tensor) -> int:
        """Return the number of images in a chunk, a divisor of n: bits depend on the shape."""
        n = images.shape[0]
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return n
        bytes_an_image = 2 * self.layers["patches"][0] * self.grid[0] * self.grid[1]
        most = max(1, min(n, _BYTES_AT_ONCE // bytes_an_image))
        return next(size for size in range(most, 0, -1) if n % size == 0)
