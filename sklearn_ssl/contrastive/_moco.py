"""MoCo: find the key of the other view, computed by an EMA of the network, among many keys."""

from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, POSITIVE, SHARE, Options
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import patch_projection
from sklearn_ssl.nn import MomentumCopy, Queue, cosine, info_nce, mlp
from sklearn_ssl.views import BYOL_VIEWS, Views


def queue_loss(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE of unit vectors: the i-th key (n, d) against all negatives (q, d)."""
    with full_precision(queries.device):
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).mean()


class MoCoTask(PretextTask):
    """Base of both versions: an encoder and a projector, with EMAs of both."""

    def __init__(self, encoder, views, *, projector, momentum, final_momentum, temperature):
        super().__init__(encoder, views)
        self.projector = projector
        self.key_encoder = MomentumCopy(encoder)
        self.key_projector = MomentumCopy(projector)
        self.momentum = momentum
        self.final_momentum = final_momentum
        self.temperature = temperature

    @torch.no_grad()
    def keys(self, views: Tensor) -> Tensor:
        return F.normalize(self.key_projector(self.key_encoder.module.embed(views)).float(), dim=1)

    def after_step(self, output, progress):
        momentum = cosine(progress, self.momentum, self.final_momentum)
        self.key_encoder.update(self.encoder, momentum)
        self.key_projector.update(self.projector, momentum)


class MoCo2Task(MoCoTask):
    """Version 2: one view is the query; negatives are the keys of earlier batches."""

    def __init__(self, encoder, views, *, hidden_dim, projection_dim, queue_size, **options):
        projector = nn.Sequential(
            nn.Linear(encoder.out_shape[0], hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, projection_dim),
        )
        super().__init__(encoder, views, projector=projector, **options)
        self.queue = Queue(queue_size, projection_dim)

    def forward(self, images, index):
        first, second = self.pair(images).chunk(2)
        queries = F.normalize(self.projector(self.encoder.embed(first)).float(), dim=1)
        keys = self.keys(second)
        loss = queue_loss(queries, keys, self.queue.vectors, self.temperature)
        return TaskOutput(loss, state=keys)

    def after_step(self, output, progress):
        super().after_step(output, progress)
        self.queue.push(output.state)


class MoCo3Task(MoCoTask):
    """Version 3: both views are queries, via a predictor; negatives are other keys of the batch."""

    def __init__(self, encoder, views, *, hidden_dim, projection_dim, **options):
        widths = [encoder.out_shape[0], hidden_dim, projection_dim]
        if projection := patch_projection(encoder):  # a transformer
            projection.requires_grad_(False)  # its gradient destabilizes training
            widths.insert(1, hidden_dim)
        projector = mlp(*widths, last_norm=True)
        super().__init__(encoder, views, projector=projector, **options)
        self.predictor = mlp(projection_dim, hidden_dim, projection_dim, last_norm=True)

    def forward(self, images, index):
        both = self.pair(images)
        queries = self.predictor(self.projector(self.encoder.embed(both)))
        queries = F.normalize(queries.float(), dim=1)
        keys = self.keys(both).roll(len(images), 0)  # of the other view
        q, k = (z.unflatten(0, (2, -1)) for z in (queries, keys))  # (2, n, d)
        # sum over both directions, with the paper's factor of 2 * temperature
        return TaskOutput(4 * self.temperature * info_nce(q, k, self.temperature))


class MoCo(PretextLearner):
    """Momentum contrast, in its second [1]_ [2]_ and third [3]_ version.

    The embedding of a view must find the key of the image's other view. Keys are computed by an EMA
    of the network. Negatives are a queue of keys from earlier batches (version 2) or the other keys
    of the batch (version 3). The EMA momentum rises in both; in the papers, that of version 2 is
    constant. Unlike in [1]_, keys are not shuffled between devices: batch norm always uses the
    whole batch. Version 3 freezes a transformer's patch projection at its initial weights, as in
    [3]_, even if these are pretrained. Features come from the trained network, not from its EMA.

    Parameters
    ----------
    version : {2, 3}, default=2
        Version 2 has a queue; version 3 has a predictor and uses both views as queries.
    temperature : float, default=0.2
        Temperature that divides the cosine similarities.
    momentum : float, default=0.99
        EMA momentum at the start; it rises to ``final_momentum`` along half a cosine.
    final_momentum : float, default=0.999
        EMA momentum in the last step.
    queue_size : int, default=4096
        Number of earlier keys in version 2, capped at half the number of images.
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
    .. [1] He, Fan, Wu, Xie and Girshick (2020), Momentum Contrast for Unsupervised Visual
       Representation Learning, https://arxiv.org/abs/1911.05722
    .. [2] Chen, Fan, Girshick and He (2020), Improved Baselines with Momentum Contrastive Learning,
       https://arxiv.org/abs/2003.04297
    .. [3] Chen, Xie and He (2021), An Empirical Study of Training Self-Supervised Vision
       Transformers, https://arxiv.org/abs/2104.02057

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import MoCo
    >>> X = load_digits().images[:256]
    >>> ssl = MoCo(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    version: int = argument(Options(Integral, {2, 3}), default=2)
    temperature: float = argument(POSITIVE, default=0.2)
    momentum: float = argument(SHARE, default=0.99)
    final_momentum: float = argument(SHARE, default=0.999)
    queue_size: int = argument(COUNT, default=4096)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)

    def _default_views(self):
        return Views() if self.version == 2 else Views(**BYOL_VIEWS)

    def _make_task(self, encoder, n_images):
        if self.version == 3:
            return self._new_task(MoCo3Task, encoder)
        # half the images: most queries do not meet an old key of their own image
        queue_size = min(self.queue_size, max(1, n_images // 2))
        return self._new_task(MoCo2Task, encoder, queue_size=queue_size)
