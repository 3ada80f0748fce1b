"""I-JEPA: predict representations of parts of an image from another part."""

import math
from collections.abc import Callable
from numbers import Integral
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, NOT_NEGATIVE, SHARE, Interval
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import TokenPredictor, at_positions, check_transformer, encode_positions
from sklearn_ssl.nn import MomentumCopy, cosine, covariance_loss, variance_loss
from sklearn_ssl.views import Views


class IJEPATask(PretextTask):
    def __init__(
        self, encoder, views, *, size, n_targets, target_scale, momentum, weights, predictor_dim,
        predictor_depth,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.momentum = momentum
        self.weights = weights
        self.n_targets = n_targets
        d, *self.grid = encoder.shape_of(size)
        rows, columns = self.grid
        block = [max(1, round(side * target_scale**0.5)) for side in self.grid]
        # all images get as many context tokens as are left if no targets overlap; blocks shrink
        # until that is at least an eighth of the grid
        while rows * columns - n_targets * math.prod(block) < rows * columns / 8 and max(block) > 1:
            block[block.index(max(block))] -= 1
        self.block = tuple(block)
        self.n_context = max(1, rows * columns - n_targets * math.prod(block))
        self.target_encoder = MomentumCopy(encoder)
        self.predictor = TokenPredictor(d, predictor_dim, d, predictor_depth, self.grid)

    def draw_blocks(self, n: int, device: torch.device) -> Tensor:
        """Draw positions (n, n_targets, area) of target blocks, each anywhere in the grid."""
        rows, columns = (
            torch.randint(side - block + 1, (n, self.n_targets, 1), device=device)
            + torch.arange(block, device=device)
            for side, block in zip(self.grid, self.block, strict=True)
        )
        return (rows[..., :, None] * self.grid[1] + columns[..., None, :]).flatten(2)

    def draw_context(self, blocks: Tensor) -> Tensor:
        """Draw positions (n, n_context) outside of all target blocks."""
        n = len(blocks)
        order = torch.rand(n, self.grid[0] * self.grid[1], device=blocks.device)
        order = order.scatter(1, blocks.flatten(1), 2.0)  # targets come last
        return order.argsort(1)[:, : self.n_context]

    def forward(self, images, index):
        images = self.views(images)
        blocks = self.draw_blocks(len(images), images.device)
        context = self.draw_context(blocks)
        with torch.no_grad():
            target = self.target_encoder(images).flatten(2).transpose(1, 2)  # (n, positions, d)
            target = F.layer_norm(target.float(), target.shape[2:])
            target = at_positions(target, blocks.flatten(1))
        tokens = encode_positions(self.encoder, images, context)
        m = self.n_targets  # each block is predicted separately, from the same context
        output = self.predictor(
            tokens.repeat_interleave(m, 0), context.repeat_interleave(m, 0), blocks.flatten(0, 1)
        )
        output = output.float().view_as(target)
        every = tokens.flatten(0, 1)
        terms = {
            "prediction": F.smooth_l1_loss(output, target),
            "variance": variance_loss(every),
            "covariance": covariance_loss(every),
        }
        loss = sum(weight * terms[name] for name, weight in self.weights.items())
        return TaskOutput(loss, terms)

    def after_step(self, output, progress):
        self.target_encoder.update(self.encoder, cosine(progress, self.momentum, 1.0))


class IJEPA(PretextLearner):
    """Image-based joint-embedding predictive architecture [1]_.

    A vision transformer encodes some patches of an image. From these, a small transformer predicts
    several masked blocks, as encoded by the encoder's EMA, which sees the whole image. No color
    augmentation is needed.

    In short training runs, tokens collapse to few dimensions, where they are easy to predict. Two
    terms prevent that: they keep the variance of the context tokens up and their covariances down,
    over all tokens of a batch. [2]_ applies them to the mean of an image's tokens, which helped
    less here. Keeping images apart is still left to the EMA; ``variance=0, covariance=0`` is the
    loss of [1]_.

    The encoder must be a transformer: ``"small_vit"``, or an ``nn.Sequential`` of a patch embedding
    and blocks. The paper draws new block shapes for every batch, and its context is a large block
    without the targets. Here all blocks have the same shape, with the proportions of the grid where
    there is room, and the context is a random set of other patches, as many as every image is sure
    to have. If that would be too few, blocks are made smaller. Targets are layer-normalized, and
    the loss is smooth L1. Weight decay is constant; in the paper it rises from 0.04 to 0.4.
    Features come from the trained encoder; the paper uses its EMA.

    Parameters
    ----------
    n_targets : int, default=4
        Number of blocks to predict.
    target_scale : float, default=0.17
        Fraction of the image that a block covers.
    variance : float, default=0.1
        Weight of the hinge loss on the standard deviations of the context tokens.
    covariance : float, default=0.004
        Weight of the covariances between dimensions of the context tokens.
    momentum : float, default=0.996
        EMA momentum at the start; it rises to 1 along half a cosine.
    predictor_dim : int, default=96
        Width of the predictor, a multiple of 32.
    predictor_depth : int, default=2
        Number of transformer blocks in the predictor.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Assran et al. (2023), Self-Supervised Learning from Images with a Joint-Embedding
       Predictive Architecture, https://arxiv.org/abs/2301.08243
    .. [2] Mo and Tong (2024), Connecting Joint-Embedding Predictive Architecture with Contrastive
       Self-supervised Learning, https://arxiv.org/abs/2410.19560

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import IJEPA
    >>> X = load_digits().images[:256]
    >>> ssl = IJEPA(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 1728)
    """

    encoder: str | Callable[..., nn.Module] = "small_vit"
    n_targets: int = argument(COUNT, default=4)
    target_scale: float = argument(SHARE, default=0.17)
    variance: float = argument(NOT_NEGATIVE, default=0.1)
    covariance: float = argument(NOT_NEGATIVE, default=0.004)
    momentum: float = argument(SHARE, default=0.996)
    lr: float = 1e-3
    predictor_dim: int = argument(Interval(Integral, 32, None, closed="left"), default=96)
    predictor_depth: int = argument(COUNT, default=2)

    _usual_batch_size: ClassVar[int] = 32

    def _default_views(self):
        return Views(crop_scale=(0.3, 1.0), jitter=None, gray=0, blur=0)

    def _make_task(self, encoder, n_images):
        check_transformer(encoder, "IJEPA")
        if self.predictor_dim % 32:
            raise ValueError(f"predictor_dim={self.predictor_dim} must be a multiple of 32")
        views = self._make_views(encoder.image_shape[:2])
        return self._new_task(
            IJEPATask,
            encoder,
            views,
            size=views.size_for(encoder.image_shape),
            weights={"prediction": 1.0, "variance": self.variance, "covariance": self.covariance},
        )
