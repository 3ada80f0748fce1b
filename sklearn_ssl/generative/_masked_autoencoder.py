"""Masked autoencoder: reconstruct most of an image from a few of its patches."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, Interval
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import TokenPredictor, at_positions, check_transformer, encode_positions
from sklearn_ssl.generative._shared import ReconstructionMixin
from sklearn_ssl.views import Views


class MaskedAutoencoderTask(PretextTask):
    def __init__(
        self, encoder, views, *, size, mask_ratio, normalize_pixels, decoder_dim, decoder_depth
    ):
        super().__init__(encoder, views)
        self.normalize_pixels = normalize_pixels
        d, rows, columns = encoder.shape_of(size)
        self.grid = (rows, columns)
        self.patch = (size[0] // rows, size[1] // columns)
        self.n_patches = rows * columns
        # at least one patch is visible and, if there are two, at least one is hidden
        visible = round((1 - mask_ratio) * self.n_patches)
        self.n_visible = min(max(visible, 1), max(self.n_patches - 1, 1))
        values = self.patch[0] * self.patch[1] * encoder.image_shape[2]
        self.decoder = TokenPredictor(d, decoder_dim, values, decoder_depth, self.grid)

    def patches(self, images: Tensor) -> Tensor:
        """Cut images into flat patches, (n, patches, values)."""
        for dim, (cells, side) in enumerate(zip(self.grid, self.patch, strict=True)):
            images = images.narrow(2 + dim, 0, cells * side).unfold(2 + dim, side, side)
        return images.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def images(self, patches: Tensor) -> Tensor:
        """Invert :meth:`patches`."""
        channels = self.encoder.image_shape[2]
        maps = patches.unflatten(2, (channels, *self.patch)).unflatten(1, self.grid)
        return maps.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def targets(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return target patches, and the mean and standard deviation removed from each."""
        patches = self.patches(self.encoder.standardize(images))
        if not self.normalize_pixels or patches.shape[2] == 1:  # one value would become 0
            return patches, torch.zeros_like(patches[..., :1]), torch.ones_like(patches[..., :1])
        mean = patches.mean(2, keepdim=True)
        std = (patches.var(2, keepdim=True, correction=0) + 1e-6).sqrt()
        return (patches - mean) / std, mean, std

    def predict(self, images: Tensor, order: Tensor, n_visible: int) -> tuple[Tensor, Tensor]:
        """Predict patches at ``order[:, n_visible:]`` from the others; return positions, too."""
        visible, hidden = order[:, :n_visible], order[:, n_visible:]
        if not hidden.shape[1]:  # an image of one patch
            hidden = visible
        tokens = encode_positions(self.encoder, images, visible)
        return self.decoder(tokens, visible, hidden), hidden

    def forward(self, images, index):
        images = self.views(images)
        order = torch.rand(len(images), self.n_patches, device=images.device).argsort(1)
        output, hidden = self.predict(images, order, self.n_visible)
        target, _, _ = self.targets(images)
        return TaskOutput(F.mse_loss(output.float(), at_positions(target, hidden)))

    def reconstruct(self, images):
        """Predict each patch from visible others, in a few passes."""
        images = F.interpolate(
            images, [c * p for c, p in zip(self.grid, self.patch, strict=True)], mode="bilinear"
        )
        target, mean, std = self.targets(images)
        total, count = torch.zeros_like(target), torch.zeros_like(target[..., :1])
        rows, columns = (torch.arange(cells, device=images.device) for cells in self.grid)
        step = max(1, min(self.n_visible, self.n_patches - self.n_visible))
        passes = -(-self.n_patches // step)
        scattered = ((2 * rows[:, None] + columns) % passes).flatten().argsort(stable=True)
        for start in range(0, self.n_patches, step):
            order = scattered.roll(-start).expand(len(images), -1)
            output, hidden = self.predict(images, order, self.n_visible)
            where = hidden[..., None]
            total.scatter_add_(1, where.expand(-1, -1, target.shape[2]), output.float())
            count.scatter_add_(1, where, torch.ones_like(where, dtype=count.dtype))
        pixels = self.images(total / count.clamp(min=1) * std + mean)
        return F.interpolate(
            self.encoder.standardize.inverse(pixels), self.encoder.image_shape[:2], mode="bilinear"
        )


class MaskedAutoencoder(ReconstructionMixin, PretextLearner):
    """Masked autoencoder [1]_.

    A vision transformer encodes a quarter of an image's patches and skips the others, which a small
    transformer reconstructs from the encodings (mean squared error on pixels, standardized per
    patch).

    The encoder must be a transformer: ``"small_vit"``, or an ``nn.Sequential`` of a patch embedding
    and blocks. ``reconstruct`` predicts each patch from others; the mean and contrast that
    standardized patches lack are taken from ``X``. ``"small_vit"`` has no class token, crops cover
    at least 30 % of an image (20 % in the paper), and the decoder has 2 blocks of width 96 (8 of
    512). The paper's optimizer, for long training runs, is
    ``functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))`` with ``weight_decay=0.05``.

    Parameters
    ----------
    mask_ratio : float, default=0.75
        Fraction of patches that are hidden.
    normalize_pixels : bool, default=True
        If True, targets are standardized patch by patch (unless a patch is a single value).
    decoder_dim : int, default=96
        Width of the decoder, a multiple of 32.
    decoder_depth : int, default=2
        Number of transformer blocks in the decoder.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] He, Chen, Xie, Li, Dollár and Girshick (2022), Masked Autoencoders Are Scalable Vision
       Learners, https://arxiv.org/abs/2111.06377

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import MaskedAutoencoder
    >>> X = load_digits().images[:256]
    >>> ssl = MaskedAutoencoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.reconstruct(X).shape
    (256, 8, 8)
    """

    encoder: str | Callable[..., nn.Module] = "small_vit"
    mask_ratio: float = argument(Interval(Real, 0, 1, closed="neither"), default=0.75)
    lr: float = 1e-3
    normalize_pixels: bool = argument("boolean", default=True)
    decoder_dim: int = argument(Interval(Integral, 32, None, closed="left"), default=96)
    decoder_depth: int = argument(COUNT, default=2)

    def _default_views(self):
        return Views(crop_scale=(0.3, 1.0), jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        check_transformer(encoder, "MaskedAutoencoder")
        if self.decoder_dim % 32:
            raise ValueError(f"decoder_dim={self.decoder_dim} must be a multiple of 32")
        views = self._make_views(encoder.image_shape[:2])
        size = views.size_for(encoder.image_shape)
        return self._new_task(MaskedAutoencoderTask, encoder, views, size=size)
