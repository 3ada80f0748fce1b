"""Images as grids of overlapping patches, each encoded separately."""

from collections.abc import Sequence

from torch import Tensor

from sklearn_ssl.encoders._encoder import BackboneEncoder, Encoder


class PatchEncoder(Encoder):
    """Encoder of each patch of an image separately, to a map (n, d, rows, columns).

    Parameters
    ----------
    encoder : BackboneEncoder
        Encoder of single patches.
    patch_size, stride : tuple of int
        Height and width of a patch, and steps down and right from one to the next, in pixels.
    """

    def __init__(
        self, encoder: BackboneEncoder, patch_size: tuple[int, int], stride: tuple[int, int]
    ):
        super().__init__()
        self.encoder = encoder
        self.patch_size = patch_size
        self.stride = stride
        self.image_shape = encoder.image_shape
        self.grid = self.grid_of(self.image_shape[:2])
        # distance, in patches, to the nearest patch without shared pixels
        self.apart = tuple(
            -(-patch // step) for patch, step in zip(patch_size, stride, strict=True)
        )
        self.layers = {name: (d, *self.grid) for name, (d, _, _) in encoder.layers.items()}
        self.default_layer = encoder.default_layer

    def grid_of(self, size: Sequence[int]) -> tuple[int, int]:
        """Return the rows and columns of patches in images of this size."""
        if any(side < patch for side, patch in zip(size, self.patch_size, strict=True)):
            raise ValueError(
                f"views of {size[0]} x {size[1]} pixels are smaller than patches of "
                f"{self.patch_size[0]} x {self.patch_size[1]}; use larger views"
            )
        rows, columns = (
            (side - patch) // step + 1
            for side, patch, step in zip(size, self.patch_size, self.stride, strict=True)
        )
        return rows, columns

    def patches(self, images: Tensor) -> Tensor:
        """Cut images (n, c, h, w) into patches ``(n * rows * columns, c, *patch_size)``."""
        for dim, (size, step) in enumerate(zip(self.patch_size, self.stride, strict=True)):
            images = images.unfold(2 + dim, size, step)  # (n, c, rows, columns, *patch_size)
        return images.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    def covered(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width, in pixels, that a grid of patches covers."""
        height, width = (
            (cells - 1) * step + patch
            for cells, step, patch in zip(grid, self.stride, self.patch_size, strict=True)
        )
        return height, width

    def encode(self, patches: Tensor, grid: tuple[int, ...], *layers: str) -> list[Tensor]:
        """Encode patches ``(n * rows * columns, c, *size)`` as (n, d, rows, columns) per layer."""
        pooled = (m.mean((2, 3)) for m in self.encoder.maps(patches, *layers))
        return [z.unflatten(0, (-1, *grid)).permute(0, 3, 1, 2) for z in pooled]

    def maps(self, images: Tensor, *layers: str) -> list[Tensor]:
        """Compute maps (n, d, rows, columns) of encoded patches for several layers in one pass."""
        grid = self.grid_of(images.shape[2:])
        return self.encode(self.patches(images), grid, *layers)
