"""Rotation prediction: predict by how many quarter turns an image was rotated."""

import torch
from torch import nn

from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput
from sklearn_ssl.nn import classification
from sklearn_ssl.views import Views, view_size


class RotationTask(PretextTask):
    def __init__(self, encoder, views):
        super().__init__(encoder, views)
        self.classifier = nn.Linear(encoder.out_shape[0], 4)

    def forward(self, images, index):
        images = self.views(images)  # (n, c, side, side)
        turned = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
        turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
        loss, accuracy = classification(self.classifier(self.encoder.embed(turned)), turns)
        return TaskOutput(loss, {"accuracy": accuracy})


class RotationPrediction(PretextLearner):
    """Rotation prediction [1]_.

    Each image is shown at 0, 90, 180 and 270 degrees, all four in one batch, and the network
    predicts which is which. It must learn what is upright, so this does not help with images that
    have no natural orientation, such as microscope images.

    Parameters
    ----------
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Gidaris, Singh and Komodakis (2018), Unsupervised Representation Learning by Predicting
       Image Rotations, https://arxiv.org/abs/1803.07728

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import RotationPrediction
    >>> X = load_digits().images[:256]
    >>> ssl = RotationPrediction(max_epochs=1, random_state=0).fit(X)
    >>> sorted(ssl.history_[-1])[:2]
    ['accuracy', 'epoch']
    """

    def _default_views(self):
        return Views(crop_scale=(0.5, 1.0), jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        height, width, _ = encoder.image_shape
        square = min(view_size((height, width)))  # can be rotated
        views = self._make_views(square)
        height, width = views.size_for(encoder.image_shape)
        if height != width:
            raise ValueError(f"views of {height} x {width} are not square; use a square size")
        if getattr(views, "rotate", False):
            raise ValueError("rotated views hide the rotation to predict; use rotate=False")
        return RotationTask(encoder, views)
