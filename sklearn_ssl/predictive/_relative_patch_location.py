"""Relative patch location: predict where a second patch lies relative to a first one."""

from numbers import Real

import torch

from sklearn_ssl._utils._estimators import COUNT, Interval
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import classification, mlp
from sklearn_ssl.views import Views, random_tiles


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
        tiles = self.views(tiles.flatten(0, 1))  # each patch is augmented independently
        z = self.encoder.embed(tiles).unflatten(0, (n, 9))
        center = z[:, 4:5].expand(-1, 8, -1)
        around = torch.cat([z[:, :4], z[:, 5:]], dim=1)
        pairs = torch.cat([center, around], dim=2).flatten(0, 1)
        direction = torch.arange(8, device=images.device).repeat(n)
        loss, accuracy = classification(self.classifier(pairs), direction)
        return TaskOutput(loss, {"accuracy": accuracy})


class RelativePatchLocation(PretextLearner):
    """Context prediction: the relative location of two patches [1]_.

    A part of an image is cut into 3 x 3 patches. From the central patch and one of its neighbors,
    the network predicts in which of eight directions the neighbor lies; each step asks for all
    eight. To prevent shortcuts, gaps between patches have random widths, and patches lose their
    color at random (the paper puts noise into two of three channels). Patches are enlarged to a
    third of the image.

    Parameters
    ----------
    fill : float, default=0.5
        Side of a patch, relative to its cell of the grid. The rest is gaps, by default as wide as a
        patch on average. If gaps are narrow, lines that continue from patch to patch give the
        position away: the network solves the task better, but features get worse.
    span : float, default=0.6
        Minimum side of the 3 x 3 grid, relative to the image; its size and position are drawn for
        each image. With 1, the central patch is always the middle of the image, and the position of
        a neighbor in the image gives its direction away.
    hidden_dim : int, default=512
        Width of the hidden layer, which combines two patches.
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
        return self._new_task(RelativePatchTask, encoder, self._make_views(patch), patch=patch)
