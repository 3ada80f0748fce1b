"""BYOL: predict the embedding of another view, computed by an EMA of the network."""

from typing import ClassVar

import torch

from sklearn_ssl._utils._estimators import COUNT, SHARE
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import MomentumCopy, cosine, mlp, negative_cosine
from sklearn_ssl.views import BYOL_VIEWS, Views


class BYOLTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, momentum):
        super().__init__(encoder, views)
        self.momentum = momentum
        self.projector = mlp(encoder.out_shape[0], hidden_dim, projection_dim, last_bias=False)
        self.predictor = mlp(projection_dim, hidden_dim, projection_dim)
        self.target_encoder = MomentumCopy(encoder)
        self.target_projector = MomentumCopy(self.projector)

    def forward(self, images, index):
        crops = self.views(images)  # the two large views come first
        z = self.projector(torch.cat([self.encoder.embed(size) for size in crops]))
        with torch.no_grad():
            target = self.target_projector(self.target_encoder.module.embed(crops[0]))  # (2n, d)
        # squared distance of unit vectors, summed over the two directions
        similar = negative_cosine(self.predictor(z), target, len(images))
        return TaskOutput(4 + 4 * similar)

    def after_step(self, output, progress):
        momentum = cosine(progress, self.momentum, 1.0)
        self.target_encoder.update(self.encoder, momentum)
        self.target_projector.update(self.projector, momentum)


class BYOL(MultiCropArguments, PretextLearner):
    """Bootstrap your own latent [1]_.

    From one view of an image, a network predicts the embedding that its EMA computes for the other
    view; no negatives are needed. Features come from the trained network, as in the paper.

    Parameters
    ----------
    momentum : float, default=0.98
        EMA momentum at the start, the paper's tau; it rises to 1 along half a cosine. Long training
        runs need a value closer to 1.
    hidden_dim : int, default=512
        Width of the hidden layers of the projector and the predictor.
    projection_dim : int, default=128
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Grill et al. (2020), Bootstrap Your Own Latent: A New Approach to Self-Supervised
       Learning, https://arxiv.org/abs/2006.07733

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import BYOL
    >>> X = load_digits().images[:256]
    >>> ssl = BYOL(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    momentum: float = argument(SHARE, default=0.98)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)

    _task_class: ClassVar = BYOLTask

    def _default_views(self):
        return Views(**BYOL_VIEWS)
