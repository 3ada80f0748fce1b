"""Instance discrimination: every image is its own class, with a slot in a memory bank."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, POSITIVE, SHARE
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import gather, mlp
from sklearn_ssl.views import Views


class InstanceDiscriminationTask(PretextTask):
    n_images: int
    bank: Tensor
    seen: Tensor
    log_constant: Tensor

    def __init__(
        self, encoder, views, *, n_images, projection_dim, temperature, momentum, negatives,
        proximity,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.n_images = n_images
        self.temperature = temperature
        self.momentum = momentum
        self.negatives = negatives
        self.proximity = proximity
        # features of an untrained network are nearly identical; the norm spreads them out
        self.projector = mlp(encoder.out_shape[0], projection_dim, last_norm=True)
        self.register_buffer("bank", F.normalize(torch.randn(n_images, projection_dim), dim=1))
        self.register_buffer("seen", torch.zeros(n_images, dtype=torch.bool))
        # log of the paper's Z, set by the first batch
        self.register_buffer("log_constant", torch.full((), -torch.inf))

    def forward(self, images, index):
        v = F.normalize(self.projector(self.encoder.embed(self.views(images))).float(), dim=1)
        # slots of unseen images are random; their own embeddings stand in
        own = torch.where(self.seen[index][:, None], self.bank[index], v.detach())
        with full_precision(v.device):
            if self.negatives is None:
                logits = v @ self.bank.T  # (n, n_images)
                logits = logits.scatter(1, index[:, None], (v * own).sum(1, keepdim=True))
                loss = F.cross_entropy(logits / self.temperature, index)
                log_constant = self.log_constant
            else:
                loss, log_constant = self._nce(v, own)
        moved = (v - own).square().sum(1).mean()
        state = (index, v.detach(), log_constant)
        return TaskOutput(loss + self.proximity * moved, {"moved": moved}, state)

    def _nce(self, v: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the noise-contrastive loss (equations 4 to 8) and the log of its constant Z."""
        m = self.negatives
        drawn = torch.randint(self.n_images, (m,), device=v.device)  # for all own rows
        positive = (v * own).sum(1) / self.temperature  # (n,)
        negative = v @ self.bank[drawn].T / self.temperature  # (n, m)
        # Z is n times the mean of exp(.) over noise samples
        sums = gather(negative.detach().logsumexp(1))
        estimate = sums.logsumexp(0) + math.log(self.n_images / (m * len(sums)))
        known = self.log_constant.isfinite()
        log_constant = torch.where(known, self.log_constant, estimate)
        # log odds of P(i|v) = exp(.) / Z against m times the noise's 1 / n
        offset = log_constant + math.log(m / self.n_images)
        data = F.softplus(-(positive - offset)).mean()
        noise_terms = F.softplus(negative - offset).sum(1).mean()
        return data + noise_terms, log_constant

    @torch.no_grad()
    def after_step(self, output, progress):
        index, v, log_constant = output.state
        index, v = gather(index), gather(v)
        old = torch.where(self.seen[index][:, None], self.bank[index], v)
        self.bank[index] = F.normalize(old.lerp(v, 1 - self.momentum), dim=1)
        self.seen.index_fill_(0, index, True)  # indexed assignment would wait for the GPU
        self.log_constant.copy_(log_constant)


class InstanceDiscrimination(PretextLearner):
    """Non-parametric instance discrimination [1]_.

    Every image is its own class. A memory bank has one slot per image, an EMA of its embeddings;
    the image's embedding must match its own slot among those of all images. In the first epoch an
    image has no slot yet, and its embedding stands in. Unlike in the paper, embeddings pass through
    a batch norm, which spreads out those of an untrained network, and noise samples are drawn per
    batch, not per image.

    A continued fit needs the same images in the same order, because each image has its own slot.

    Parameters
    ----------
    temperature : float, default=0.07
        Temperature that divides the cosine similarities.
    momentum : float, default=0.5
        EMA momentum of a slot, which is updated when its image is seen.
    negatives : int or None, default=None
        Number of noise samples for noise-contrastive estimation, useful with many images; the paper
        uses 4,096. Capped at the number of images. ``None`` computes the softmax over all images.
    proximity : float, default=0.0
        Weight of the squared change of an image's embedding (proximal regularization), the paper's
        lambda.
    projection_dim : int, default=128
        Dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Wu, Xiong, Yu and Lin (2018), Unsupervised Feature Learning via Non-Parametric Instance
       Discrimination, https://arxiv.org/abs/1805.01978

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import InstanceDiscrimination
    >>> X = load_digits().images[:256]
    >>> ssl = InstanceDiscrimination(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    temperature: float = argument(POSITIVE, default=0.07)
    momentum: float = argument(SHARE, default=0.5)
    negatives: int | None = argument(COUNT, None, default=None)
    proximity: float = argument(NOT_NEGATIVE, default=0.0)
    projection_dim: int = argument(COUNT, default=128)
    lr: float = 5e-4  # slots are an epoch old and must stay comparable

    def _default_views(self):
        return Views(blur=0)

    def _make_task(self, encoder, n_images):
        negatives = self.negatives and min(self.negatives, n_images)
        task = InstanceDiscriminationTask
        return self._new_task(task, encoder, n_images=n_images, negatives=negatives)
