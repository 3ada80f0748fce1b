"""Images as grids of overlapping patches, each encoded alone."""

from torch import Tensor, nn

from sklearn_ssl.encoders._encoder import Encoder

__all__ = ["PatchEncoder"]


class PatchEncoder(nn.Module):
    """An encoder that sees each patch of an image alone and gives a map (n, d, rows, columns).

    Parameters
    ----------
    encoder : Encoder
        Encodes patches.
    patch_size, stride : tuple of int
        Height and width of a patch, and steps down and right from one to the next, in pixels.
    """

    def __init__(self, encoder: Encoder, patch_size: tuple[int, int], stride: tuple[int, int]):
        super().__init__()
        self.encoder = encoder
        self.patch_size = patch_size
        self.stride = stride
        self.image_shape = encoder.image_shape
        self.grid = tuple(
            (side - patch) // step + 1
            for side, patch, step in zip(self.image_shape, patch_size, stride, strict=False)
        )
        # how many patches ahead is the first one without a pixel in common
        self.apart = tuple(
            -(-patch // step) for patch, step in zip(patch_size, stride, strict=True)
        )
        self.layers = {name: (d, *self.grid) for name, (d, _, _) in encoder.layers.items()}
        self.default_layer = encoder.default_layer
        self.out_shape = next(reversed(self.layers.values()))

    def patches(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n * rows * columns, c, *patch_size)."""
        for dim, (size, step) in enumerate(zip(self.patch_size, self.stride, strict=True)):
            images = images.unfold(2 + dim, size, step)  # (n, c, rows, columns, *patch_size)
        return images.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    def covered(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width, in pixels, of a grid of patches."""
        height, width = (
            (cells - 1) * step + patch
            for cells, step, patch in zip(grid, self.stride, self.patch_size, strict=True)
        )
        return height, width

    def encode(self, patches: Tensor, grid: tuple[int, ...], layer: str | None = None) -> Tensor:
        """(n * rows * columns, c, *patch_size) -> (n, d, rows, columns)."""
        features = self.encoder(patches, layer).mean((2, 3))
        return features.unflatten(0, (-1, *grid)).permute(0, 3, 1, 2)

    def forward(self, images: Tensor, layer: str | None = None) -> Tensor:
        return self.encode(self.patches(images), self.grid, layer)

    def embed(self, images: Tensor) -> Tensor:
        return self(images).mean((2, 3))
