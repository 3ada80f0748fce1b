"""Deep InfoMax: a summary of an image tells its own local features from those of others."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from sklearn_ssl._utils._arguments import COUNT, NOT_NEGATIVE
from sklearn_ssl._utils._device import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import discriminator_loss, frozen, generator_loss, mlp
from sklearn_ssl.views import Views

__all__ = ["DeepInfoMax"]


def information(scores: Tensor, estimator: str) -> Tensor:
    """Compute the negative estimate of mutual information of summaries and features (eq. 4, 5).

    Parameters
    ----------
    scores : Tensor of shape (v, n, n, p)
        Of the summary of one image (n) and the features of another (n) at each position (p), for
        each of v views. Those of an image and itself belong together; negatives are the features of
        all other images at all positions.
    estimator : {"infonce", "jsd"}
    """
    n = scores.shape[1]
    own = scores.diagonal(dim1=1, dim2=2)  # (v, p, n)
    itself = torch.eye(n, dtype=torch.bool, device=scores.device)[:, :, None]
    if estimator == "infonce":
        others = scores.masked_fill(itself, -torch.inf).logsumexp((2, 3))  # (v, n)
        return F.softplus(others[:, None] - own).mean()
    apart = F.softplus(scores).masked_fill(itself, 0).mean() * n / (n - 1)
    return F.softplus(-own).mean() + apart


class DeepInfoMaxTask(PretextTask):
    project_local: Any
    project_flat: Any
    discriminator: Any

    def __init__(
        self, encoder, views, *, local_layer, width, estimator, global_weight, local_weight,
        prior_weight, two_views,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.local_layer = local_layer
        self.estimator = estimator
        self.two_views = two_views
        self.weights = {"global": global_weight, "local": local_weight, "prior": prior_weight}
        n_local, n_global = encoder.layers[local_layer][0], encoder.out_shape[0]
        # the paper's fully-connected layers; only a prior sees the bias
        self.summary = mlp(n_global, width, width, last_bias=bool(prior_weight))
        # embed both sides and compare by a product ("encode and dot"); a constant that is added to
        # all local features does not change the softmax of InfoNCE
        bias = estimator == "jsd"
        self.project_local = (
            nn.Sequential(
                nn.Conv2d(n_local, width, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 1, bias=bias),
            )
            if local_weight
            else None
        )
        self.project_summary = mlp(width, width, width)
        self.project_flat = mlp(n_local, width, width, last_bias=bias) if global_weight else None
        self.discriminator = (
            nn.Sequential(nn.Linear(width, 256), nn.ReLU(inplace=True), nn.Linear(256, 1))
            if prior_weight
            else None
        )

    def forward(self, images, index):
        views = self.pair(images) if self.two_views else self.views(images)
        n_views = 1 + self.two_views
        local, last = self.encoder.maps(views, self.local_layer, self.encoder.last_layer)
        summary = self.summary(last.mean((2, 3)))  # (n_views * n, width)
        # summaries of one view are compared with local features of the other
        query = self.project_summary(summary).unflatten(0, (n_views, -1)).flip(0)
        terms = {}
        if self.project_local is not None:
            terms["local"] = self._estimate(query, self.project_local(local).flatten(2))
        if self.project_flat is not None:
            whole = self.project_flat(local.mean((2, 3)))
            terms["global"] = self._estimate(query, whole[:, :, None])
        if self.discriminator is not None:
            terms["prior"] = self._match_prior(summary)
        loss = sum(self.weights[name] * term for name, term in terms.items())
        return TaskOutput(loss, terms)

    def _estimate(self, query: Tensor, features: Tensor) -> Tensor:
        """Compute :func:`information` of summaries (n_views, n, width) and maps of features."""
        features = features.unflatten(0, query.shape[:2])
        with full_precision(query.device):
            scores = torch.einsum("vid,vjdp->vijp", query.float(), features.float())
            return information(scores / query.shape[2] ** 0.5, self.estimator)

    def _match_prior(self, summary: Tensor) -> Tensor:
        """Compute the loss of telling uniform noise from summaries, which learn to deceive it."""
        made = summary.sigmoid()
        real = torch.rand_like(made)
        told = discriminator_loss(self.discriminator(real), self.discriminator(made.detach()))
        return told + generator_loss(frozen(self.discriminator, made))


class DeepInfoMax(PretextLearner):
    """Deep InfoMax: mutual information between local features and a summary of the image [1]_.

    A global vector is computed from the encoder's last layer. It has to tell the local features of
    its own image, of an earlier layer, from those of the other images of the batch.

    In the paper both are of one view of the image, which can be told from others by its colors;
    here they are of two views, each cropped and colored on its own, as in [2]_, but at one scale.
    Scores are divided by the square root of ``width``, which keeps them moderate, unlike in both.
    Of the paper's three estimators that of Donsker and Varadhan is left out, which did worst there.

    Parameters
    ----------
    local_layer : str or None, default=None
        Layer of the local features; ``None`` takes the last stage but one.
    estimator : {"infonce", "jsd"}, default="infonce"
        How mutual information is estimated: by telling each local feature from those of all other
        images at all positions (InfoNCE), or by telling pairs that belong together from others
        (Jensen-Shannon).
    local_weight : float, default=1.0
        Weight of local features, the paper's beta.
    global_weight : float, default=0.0
        Weight of the summary of local features, the paper's alpha.
    prior_weight : float, default=0.0
        Weight of an adversary that draws global vectors to a uniform distribution, the paper's
        gamma.
    two_views : bool, default=True
        Whether summary and local features are of two views of an image, or of the same one.
    width : int, default=512
        Of the global vector and of the space in which it is compared.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Hjelm et al. (2019), Learning Deep Representations by Mutual Information Estimation and
       Maximization, https://arxiv.org/abs/1808.06670
    .. [2] Bachman, Hjelm and Buchwalter (2019), Learning Representations by Maximizing Mutual
       Information Across Views, https://arxiv.org/abs/1906.00910

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import DeepInfoMax
    >>> X = load_digits().images[:256]
    >>> ssl = DeepInfoMax(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    local_layer: str | None = argument(str, None, default=None)
    estimator: str = argument(StrOptions({"infonce", "jsd"}), default="infonce")
    local_weight: float = argument(NOT_NEGATIVE, default=1.0)
    global_weight: float = argument(NOT_NEGATIVE, default=0.0)
    prior_weight: float = argument(NOT_NEGATIVE, default=0.0)
    two_views: bool = argument("boolean", default=True)
    width: int = argument(COUNT, default=512)

    _usual_batch_size: ClassVar[int] = 64

    def _default_views(self):
        return Views(crop_scale=(0.3, 1.0), blur=0)

    def _make_task(self, encoder, n_images):
        if self.local_layer is not None and self.local_layer not in encoder.layers:
            raise ValueError(
                f"local_layer={self.local_layer!r} is not a layer of the encoder, which has "
                f"{', '.join(encoder.layers)}"
            )
        if not self.local_weight and not self.global_weight:
            raise ValueError(
                "local_weight and global_weight are both 0, which leaves nothing to learn from; "
                "give one of them a weight above 0"
            )
        views = self._make_views(encoder.image_shape[:2])
        return DeepInfoMaxTask(
            encoder,
            views,
            local_layer=self.local_layer or encoder.default_layer,
            width=self.width,
            estimator=self.estimator,
            global_weight=self.global_weight,
            local_weight=self.local_weight,
            prior_weight=self.prior_weight,
            two_views=self.two_views,
        )
