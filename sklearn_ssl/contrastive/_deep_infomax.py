"""Deep InfoMax: maximize mutual information of local features and a summary of the image."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, StrOptions
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import discriminator_loss, first_own_row, frozen, gather, generator_loss, mlp
from sklearn_ssl.views import Views


def information(scores: Tensor, loss: str) -> Tensor:
    """Compute minus the estimated mutual information of summaries and features (eq. 4, 5).

    Parameters
    ----------
    scores : Tensor of shape (v, n, m, p)
        Scores of the summary of an image (n) and the features of an image (m) at each position (p),
        for each of v views; the n images are consecutive ones of the m. An image's own features are
        its positives; negatives are the features of all other images at all positions.
    loss : {"infonce", "jsd"}
    """
    n, m = scores.shape[1:3]
    start = first_own_row(n)
    own = scores.diagonal(start, dim1=1, dim2=2)  # (v, p, n)
    itself = torch.eye(m, dtype=torch.bool, device=scores.device)[start : start + n, :, None]
    if loss == "infonce":
        others = scores.masked_fill(itself, -torch.inf).logsumexp((2, 3))  # (v, n)
        return F.softplus(others[:, None] - own).mean()
    apart = F.softplus(scores).masked_fill(itself, 0).mean() * m / (m - 1)
    return F.softplus(-own).mean() + apart


class DeepInfoMaxTask(PretextTask):
    project_local: Any
    project_flat: Any
    discriminator: Any

    def __init__(
        self, encoder, views, *, local_layer, width, loss, global_weight, local_weight,
        prior_weight, two_views,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.local_layer = local_layer
        self.loss = loss
        self.two_views = two_views
        self.weights = {"global": global_weight, "local": local_weight, "prior": prior_weight}
        n_local, n_global = encoder.layers[local_layer][0], encoder.out_shape[0]
        # the paper's fully connected layers; only the prior term sees the bias
        self.summary = mlp(n_global, width, width, last_bias=bool(prior_weight))
        # embed both sides and compare them by dot product ("encode and dot"); InfoNCE needs no
        # bias, since a constant added to all local features does not change its softmax
        bias = loss == "jsd"
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
        """Compute :func:`information` for summaries (n_views, n, width) and feature maps."""
        features = gather(features.unflatten(0, query.shape[:2]), 1)
        with full_precision(query.device):
            scores = torch.einsum("vid,vjdp->vijp", query.float(), features.float())
            return information(scores / query.shape[2] ** 0.5, self.loss)

    def _match_prior(self, summary: Tensor) -> Tensor:
        """Compute the adversarial loss that draws summaries to a uniform distribution."""
        made = summary.sigmoid()
        real = torch.rand_like(made)
        told = discriminator_loss(self.discriminator(real), self.discriminator(made.detach()))
        return told + generator_loss(frozen(self.discriminator, made))


class DeepInfoMax(PretextLearner):
    """Deep InfoMax: mutual information between local features and a summary of the image [1]_.

    A global vector is computed from the encoder's last layer. It must identify the local features
    of its own image, from an earlier layer, among those of the other images in the batch.

    In [1]_ both come from one view of the image, which its colors alone can identify. Here they
    come from two views, cropped and recolored independently, as in [2]_, but at one scale. Unlike
    in both papers, scores are divided by the square root of ``width`` to keep them moderate. Of the
    three estimators in [1]_, Donsker-Varadhan is left out; it did worst there.

    Parameters
    ----------
    local_layer : str or None, default=None
        Layer of the local features; ``None`` uses the second-to-last stage.
    loss : {"infonce", "jsd"}, default="infonce"
        Estimator of mutual information: distinguish each local feature from those of all other
        images at all positions (InfoNCE), or matching pairs from mismatched ones (Jensen-Shannon).
    local_weight : float, default=1.0
        Weight of the loss on local features, the paper's beta.
    global_weight : float, default=0.0
        Weight of the loss on averaged local features, the paper's alpha.
    prior_weight : float, default=0.0
        Weight of the adversarial loss that draws global vectors to a uniform distribution, the
        paper's gamma.
    two_views : bool, default=True
        If True, the global vector and the local features come from different views of an image.
    width : int, default=512
        Dimension of the global vector and of the space in which it is compared.
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
    loss: str = argument(StrOptions({"infonce", "jsd"}), default="infonce")
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
                f"local_layer={self.local_layer!r} is not a layer of the encoder; choose one of "
                f"{', '.join(encoder.layers)}"
            )
        if not self.local_weight and not self.global_weight:
            raise ValueError(
                "local_weight and global_weight are both 0, so there is nothing to learn from; "
                "set at least one above 0"
            )
        views = self._make_views(encoder.image_shape[:2])
        local_layer = self.local_layer or encoder.default_layer
        return self._new_task(DeepInfoMaxTask, encoder, views, local_layer=local_layer)
