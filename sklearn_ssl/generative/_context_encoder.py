"""Context encoder: fill holes in an image."""

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import NOT_NEGATIVE, StrOptions
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.generative._shared import RedrawMixin
from sklearn_ssl.nn import (
    ConvDecoder,
    ConvDiscriminator,
    discriminator_loss,
    frozen,
    gather,
    generator_loss,
    resize_map,
)
from sklearn_ssl.views import Views, functional

_BLOCKS = 4  # per random mask, each with this share of the area
_BLOCK_AREA = (0.04, 0.12)


class ChannelwiseLinear(nn.Module):
    """Linear layer over all positions of a map (n, d, gh, gw), separate for each channel."""

    def __init__(self, map_shape: tuple[int, int, int]):
        super().__init__()
        width, *self.grid = map_shape
        positions = self.grid[0] * self.grid[1]
        # start near the identity
        weight = (
            torch.eye(positions).repeat(width, 1, 1)
            + torch.randn(width, positions, positions) * 0.02
        )
        self.weight = nn.Parameter(weight)

    def forward(self, features: Tensor) -> Tensor:
        features = resize_map(features, self.grid)
        out = torch.einsum("ndp,dpq->ndq", features.flatten(2), self.weight.to(features.dtype))
        return out.unflatten(2, self.grid)


class ContextTask(PretextTask):
    def __init__(self, encoder, views, *, size, mask, adversarial):
        super().__init__(encoder, views)
        self.mask = mask
        self.adversarial = adversarial
        channels = encoder.image_shape[2]
        map_shape = encoder.shape_of(size)
        self.spread = ChannelwiseLinear(map_shape)
        self.mix = nn.Conv2d(map_shape[0], map_shape[0], 1, bias=False)
        self.decoder = ConvDecoder(map_shape, channels, size)
        self.discriminator: Any = ConvDiscriminator(channels, size) if adversarial else None

    def draw_holes(self, images: Tensor) -> Tensor:
        """Draw masks (n, 1, h, w), true where images are hidden."""
        n, _, height, width = images.shape
        hidden = torch.zeros_like(images[:, :1])
        if self.mask == "center":
            top, left = height // 4, width // 4
            hidden[:, :, top : height - top, left : width - left] = 1
            return hidden.bool()
        for _ in range(_BLOCKS):
            boxes = functional.random_boxes(
                n, height, width, _BLOCK_AREA, (0.5, 2.0), images.device
            ).round()
            hidden = functional.erase(hidden, boxes, 1.0)
        return hidden.bool()

    def fill(self, images: Tensor, holes: Tensor) -> Tensor:
        """Reconstruct images in [0, 1] without seeing their holes; return standardized images."""
        # holes get the mean, which the network sees as 0
        seen = torch.where(holes, self.encoder.standardize.offset, images)
        features = self.mix(self.spread(self.encoder(seen)))
        return self.decoder(features, images.shape[2:]).float()

    def forward(self, images, index):
        images = self.views(images)
        holes = self.draw_holes(images)
        output, target = self.fill(images, holes), self.encoder.standardize(images)
        error = (output - target).square() * holes
        n_hidden = gather((holes.sum() * images.shape[1])[None].float()).mean()
        reconstruction = error.sum() / n_hidden.clamp(min=1)
        if self.discriminator is None:
            return TaskOutput(reconstruction)
        painted = torch.where(holes, output, target)
        told = discriminator_loss(self.discriminator(target), self.discriminator(painted.detach()))
        deceiving = generator_loss(frozen(self.discriminator, painted))
        loss = reconstruction + self.adversarial * deceiving + told
        return TaskOutput(loss, {"reconstruction": reconstruction, "discriminator": told})

    def inpaint(self, images: Tensor, holes: Tensor) -> Tensor:
        holes = holes[:, None]
        painted = self.encoder.standardize.inverse(self.fill(images, holes))
        return torch.where(holes, painted, images)


class ContextEncoder(RedrawMixin, PretextLearner):
    """Context encoder: feature learning by inpainting [1]_.

    Parts of the image are hidden, and the network must fill them in (mean squared error in the
    holes). A channel-wise fully connected layer carries information over the whole map. With an
    adversary, the filled image must also look real as a whole; the paper's adversary sees only the
    filled parts. All pixels of a hole count equally; in the paper, its border counts ten times.

    Parameters
    ----------
    mask : {"blocks", "center"}, default="blocks"
        Hide four random blocks (about a quarter of the image) or the center (half of each side).
    adversarial : float, default=0.0
        Weight of the loss for fooling a discriminator of filled and real images; the paper uses
        0.001.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Pathak, Krähenbühl, Donahue, Darrell and Efros (2016), Context Encoders: Feature Learning
       by Inpainting, https://arxiv.org/abs/1604.07379

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import ContextEncoder
    >>> X = load_digits().images[:256]
    >>> ssl = ContextEncoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.inpaint(X, X > 8).shape
    (256, 8, 8)
    """

    mask: str = argument(StrOptions({"blocks", "center"}), default="blocks")
    adversarial: float = argument(NOT_NEGATIVE, default=0.0)

    _usual_batch_size: ClassVar[int] = 32

    def _default_views(self):
        return Views(crop_scale=(0.5, 1.0), jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        views = self._make_views(encoder.image_shape[:2])
        return self._new_task(ContextTask, encoder, views, size=views.size_for(encoder.image_shape))

    def inpaint(self, X: Any, mask: Any) -> Any:
        """Fill the masked pixels; the others stay unchanged.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`transform`.
        mask : bool array-like of shape (height, width) or (n, height, width)
            True where images are to be filled.

        Returns
        -------
        array or tensor
            Images in the shape, type and value range of ``X``; a 2-D array for a data frame.

        Raises
        ------
        ValueError
            If the mask does not have the shape of the images.
        """
        check_is_fitted(self)
        holes = np.asarray(mask, dtype=bool)

        def for_each(n: int) -> np.ndarray:
            shape = (n, *self.image_shape_[:2])
            if holes.shape not in (shape, shape[1:]):
                raise ValueError(
                    f"mask has shape {holes.shape}; give one mask of {shape[1:]} for all images, "
                    f"or one per image, {shape}"
                )
            return np.broadcast_to(holes, shape)

        return self._redraw(X, self._task.inpaint, for_each)
