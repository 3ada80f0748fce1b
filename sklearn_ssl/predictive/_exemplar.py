"""Exemplar-CNN: each image, with all its random transformations, is a class."""

import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, SHARE, StrOptions
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import first_own_row, gather
from sklearn_ssl.views import Views


def triplet_loss(anchors: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Compute the mean triplet loss of unit vectors (n, d), with a soft hinge and all negatives.

    With only the nearest negatives, an untrained network would draw all vectors together.
    """
    start, positives = first_own_row(len(anchors)), gather(positives)
    n, m = len(anchors), len(positives)
    with full_precision(anchors.device):
        squared = 2 - 2 * anchors @ positives.T  # (n, m)
    losses = F.softplus(squared.diagonal(start)[:, None] - squared + margin)
    return (losses.sum() - losses.diagonal(start).sum()) / (n * (m - 1))


class ExemplarTripletTask(PretextTask):
    def __init__(self, encoder, views, *, projection_dim, margin):
        super().__init__(encoder, views)
        self.margin = margin
        self.projector = nn.Linear(encoder.out_shape[0], projection_dim, bias=False)

    def forward(self, images, index):
        z = F.normalize(self.projector(self.encoder.embed(self.pair(images))).float(), dim=1)
        first, second = z.chunk(2)
        return TaskOutput(triplet_loss(first, second, self.margin))


class ExemplarSoftmaxTask(PretextTask):
    def __init__(self, encoder, views, *, n_images, label_smoothing):
        super().__init__(encoder, views)
        self.n_images = n_images
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(encoder.out_shape[0], n_images)

    def forward(self, images, index):
        logits = self.classifier(self.encoder.embed(self.views(images))).float()
        loss = F.cross_entropy(logits, index, label_smoothing=self.label_smoothing)
        return TaskOutput(loss)


class ExemplarCNN(PretextLearner):
    """Exemplar-CNN: discriminative learning of surrogate classes [1]_.

    Each image, with all its random transformations, is a class. The paper classifies them
    (``loss="softmax"``: one output per image, for small data sets); the triplet loss [2]_ compares
    two views of an image with all other images of the batch. Its hinge is softened (softplus), so
    that pairs keep moving apart once they are separated.

    With ``loss="softmax"``, a continued fit needs the same images in the same order.
    ``loss="softmax", label_smoothing=0.8`` is DIET [3]_, except for the biases of the classifier:
    no projector, no second view, nothing to tune.

    Parameters
    ----------
    loss : {"triplet", "softmax"}, default="triplet"
        Compare views within the batch, or classify all images.
    margin : float, default=0.5
        Margin by which another image should be farther away than the other view (squared distance
        of unit vectors), for ``loss="triplet"``: where the soft hinge bends.
    projection_dim : int, default=128
        Dimension of the embedding, for ``loss="triplet"``.
    label_smoothing : float, default=0.0
        Share of the target spread over all images, for ``loss="softmax"``. DIET uses 0.8.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Dosovitskiy, Fischer, Springenberg, Riedmiller and Brox (2014), Discriminative
       Unsupervised Feature Learning with Exemplar Convolutional Neural Networks,
       https://arxiv.org/abs/1406.6909
    .. [2] Doersch and Zisserman (2017), Multi-task Self-Supervised Visual Learning,
       https://arxiv.org/abs/1708.07860
    .. [3] Ibrahim, Klindt and Balestriero (2024), Occam's Razor for Self Supervised Learning: What
       is Sufficient to Learn Good Representations?, https://arxiv.org/abs/2406.10743

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import ExemplarCNN
    >>> X = load_digits().images[:256]
    >>> ssl = ExemplarCNN(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    loss: str = argument(StrOptions({"triplet", "softmax"}), default="triplet")
    margin: float = argument(NOT_NEGATIVE, default=0.5)
    projection_dim: int = argument(COUNT, default=128)
    label_smoothing: float = argument(SHARE, default=0.0)

    def _default_views(self):
        return Views(blur=0)

    def _make_task(self, encoder, n_images):
        if self.loss == "softmax":
            return self._new_task(ExemplarSoftmaxTask, encoder, n_images=n_images)
        return self._new_task(ExemplarTripletTask, encoder)
