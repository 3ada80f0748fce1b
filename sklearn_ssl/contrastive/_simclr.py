"""SimCLR: find the other view of an image among all views of the batch."""

from typing import ClassVar

import torch

from sklearn_ssl._utils._estimators import COUNT, POSITIVE
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import mlp, nt_xent, pairs_of_views


class SimCLRTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, temperature):
        super().__init__(encoder, views)
        self.temperature = temperature
        self.projector = mlp(encoder.out_shape[0], hidden_dim, projection_dim)

    def forward(self, images, index):
        z = self.projector(self.embed_crops(images))  # (views * n, projection_dim)
        losses = [nt_xent(*pair, self.temperature) for pair in pairs_of_views(z, len(images))]
        return TaskOutput(torch.stack(losses).mean())


class SimCLR(MultiCropArguments, PretextLearner):
    """Simple framework for contrastive learning of visual representations [1]_.

    Two random views of each image pass through the encoder and a projector. Each embedding must
    find the other view of its image among all other embeddings of the batch (NT-Xent loss).

    Parameters
    ----------
    temperature : float, default=0.2
        Temperature that divides the cosine similarities; low values emphasize similar negatives.
    hidden_dim : int, default=512
        Width of the projector's hidden layer.
    projection_dim : int, default=128
        Dimension of the embeddings in the loss.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Chen, Kornblith, Norouzi and Hinton (2020), A Simple Framework for Contrastive Learning
       of Visual Representations, https://arxiv.org/abs/2002.05709

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> X = load_digits().images[:256]
    >>> ssl = SimCLR(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    temperature: float = argument(POSITIVE, default=0.2)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)

    _task_class: ClassVar = SimCLRTask  # gets the arguments of the same names
