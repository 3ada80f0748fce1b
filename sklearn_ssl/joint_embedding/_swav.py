"""SwAV: predict the cluster of a view from other views of the image."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, COUNT_OR_ZERO, POSITIVE, SHARE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import Queue, gather, mlp, own_rows
from sklearn_ssl.views import Views


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int = 3) -> Tensor:
    """Assign n images to k prototypes (n, k): rows sum to 1, and prototypes are used equally."""
    log_codes = scores.float() / epsilon  # in logs: codes span many orders of magnitude
    for _ in range(iterations):
        log_codes = log_codes - log_codes.logsumexp(0)  # per prototype
        log_codes = log_codes - log_codes.logsumexp(1, keepdim=True)  # per image
    return log_codes.exp()


class SwAVTask(PretextTask):
    queues: Any
    queue_in_use: Tensor

    def __init__(
        self, encoder, views, *, hidden_dim, projection_dim, n_prototypes, temperature, epsilon,
        queue_size, queue_start,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.temperature = temperature
        self.epsilon = epsilon
        self.projector = mlp(encoder.out_shape[0], hidden_dim, projection_dim)
        prototypes = F.normalize(torch.randn(n_prototypes, projection_dim), dim=1)
        self.prototypes = nn.Parameter(prototypes)
        self.queue_start = queue_start
        self.queues = nn.ModuleList(
            Queue(queue_size, projection_dim) for _ in range(2 * bool(queue_size))
        )
        self.register_buffer("queue_in_use", torch.zeros((), dtype=torch.bool))

    def forward(self, images, index):
        n = len(images)
        z = self.embed_crops(images)
        z = F.normalize(self.projector(z).float(), dim=1)
        prototypes = F.normalize(self.prototypes, dim=1)
        with full_precision(z.device):
            scores = (z @ prototypes.T).unflatten(0, (-1, n))  # (views, n, n_prototypes)
        log_p = F.log_softmax(scores / self.temperature, dim=2)
        losses = []
        for view in (0, 1):  # codes come from large views; all others predict them
            codes = self._codes(scores[view].detach(), prototypes.detach(), view)
            others = [v for v in range(len(scores)) if v != view]
            losses += [-(codes * log_p[v]).sum(1).mean() for v in others]
        return TaskOutput(torch.stack(losses).mean(), state=z[: 2 * n].detach().chunk(2))

    def _codes(self, scores: Tensor, prototypes: Tensor, view: int) -> Tensor:
        scores = gather(scores)  # prototypes are balanced over the whole batch
        codes = sinkhorn(scores, self.epsilon)
        if not self.queues:
            return own_rows(codes)
        with full_precision(scores.device):
            earlier = self.queues[view].vectors @ prototypes.T
        together = sinkhorn(torch.cat([scores, earlier]), self.epsilon)[: len(scores)]
        return own_rows(torch.where(self.queue_in_use, together, codes))

    def after_step(self, output, progress):
        for queue, new in zip(self.queues, output.state, strict=False):
            queue.push(new)
        if self.queues:
            started = progress is None or progress >= self.queue_start
            self.queue_in_use.copy_(self.queues[0].full & started)

    def forget(self):
        super().forget()
        self.queue_in_use.fill_(False)


class SwAV(MultiCropArguments, PretextLearner):
    """Swapped assignments between views [1]_.

    Embeddings are compared with learned prototypes. The assignment of one view to prototypes,
    balanced so that a batch uses all of them equally (Sinkhorn-Knopp), is predicted from the other
    views, including small crops. Prototypes are trained from the start; the paper freezes them for
    an epoch.

    Parameters
    ----------
    n_prototypes : int, default=300
        Number of prototypes, or clusters.
    temperature : float, default=0.1
        Temperature that divides the similarities to prototypes.
    epsilon : float, default=0.05
        Smoothness of the assignments.
    queue_size : int, default=1024
        Number of earlier embeddings that take part in the assignment, capped at half the number of
        images. 0 disables the queue.
    queue_start : float, default=0.25
        Fraction of the training after which the queue is used, once it is full. With
        ``schedule="constant"`` and in :meth:`partial_fit` it is used as soon as it is full.
    hidden_dim : int, default=512
        Width of the projector's hidden layer.
    projection_dim : int, default=128
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Caron, Misra, Mairal, Goyal, Bojanowski and Joulin (2020), Unsupervised Learning of
       Visual Features by Contrasting Cluster Assignments, https://arxiv.org/abs/2006.09882

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SwAV
    >>> X = load_digits().images[:256]
    >>> ssl = SwAV(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    n_prototypes: int = argument(COUNT, default=300)
    temperature: float = argument(POSITIVE, default=0.1)
    epsilon: float = argument(POSITIVE, default=0.05)
    queue_size: int = argument(COUNT_OR_ZERO, default=1024)
    queue_start: float = argument(SHARE, default=0.25)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)
    local_crops: int = 2

    def _default_views(self):
        return Views(crop_scale=(0.2, 1.0))

    def _make_task(self, encoder, n_images):
        return self._new_task(SwAVTask, encoder, queue_size=min(self.queue_size, n_images // 2))
