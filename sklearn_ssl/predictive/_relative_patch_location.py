"""Relative patch location: tell where a second patch lies, seen from a first one."""

from numbers import Real

import torch
from sklearn.utils._param_validation import Interval

from sklearn_ssl._utils._arguments import COUNT
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import classification, mlp
from sklearn_ssl.views import Views, random_tiles

__all__ = ["RelativePatchLocation"]


class RelativePatchTask(PretextTask):
    def __init__(self, encoder, views, *, patch, fill, span, hidden_dim):
        super().__init__(encoder, views)
        self.patch = patch
        self.fill = fill
        self.span = span
        self.classifier = mlp(2 * encoder.out_shape[0], hidden_dim, 8)

    def forward(self, images, index):
        n = len(images)
        tiles = random_tiles(images, 3, self.patch, self.fill, self.span)  # (n, 9, c, *patch)
        tiles = self.views(tiles.flatten(0, 1))  # every patch is changed on its own
        z = self.encoder.embed(tiles).unflatten(0, (n, 9))
        center = z[:, 4:5].expand(-1, 8, -1)
        around = torch.cat([z[:, :4], z[:, 5:]], dim=1)
        pairs = torch.cat([center, around], dim=2).flatten(0, 1)
        direction = torch.arange(8, device=images.device).repeat(n)
        loss, accuracy = classification(self.classifier(pairs), direction)
        return TaskOutput(loss, {"accuracy": accuracy})


class RelativePatchLocation(PretextLearner):
    """Context prediction: the relative location of two patches [1]_.

    A part of an image is cut into 3 x 3 patches. From the central patch and one of its neighbors
    the network tells in which of eight directions the neighbor lies; all eight are asked. Gaps of
    random width between patches, and losing the color at random (the paper puts noise into two of
    three channels), close the shortcuts. Patches are enlarged to a third of the image.

    Parameters
    ----------
    fill : float, default=0.5
        Side of a patch, relative to its cell of the grid; the rest are gaps, as wide as a patch on
        average. Where they are narrow, what goes on from patch to patch gives the place away: the
        task is solved better, and the features are worth less.
    span : float, default=0.6
        Side of the 3 x 3 cells together, relative to the image, at least; it is drawn for each
        image, as is where they lie. With 1 the central patch is always the image's middle, and the
        position of a neighbor in the image tells its direction.
    hidden_dim : int, default=512
        Width of the layer in which two patches meet.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Doersch, Gupta and Efros (2015), Unsupervised Visual Representation Learning by Context
       Prediction, https://arxiv.org/abs/1505.05192

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import RelativePatchLocation
    >>> X = load_digits().images[:256]
    >>> ssl = RelativePatchLocation(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    fill: float = argument(Interval(Real, 0, 1, closed="right"), default=0.5)
    span: float = argument(Interval(Real, 0, 1, closed="right"), default=0.6)
    hidden_dim: int = argument(COUNT, default=512)

    def _default_views(self):
        return Views(crop_scale=None, flip=0, gray=0.6, blur=0)

    def _make_task(self, encoder, n_images):
        patch = tuple(max(1, min(side, -(-side // 3))) for side in encoder.image_shape[:2])
        views = self._make_views(patch)
        return RelativePatchTask(
            encoder, views, patch=patch, fill=self.fill, span=self.span, hidden_dim=self.hidden_dim
        )
