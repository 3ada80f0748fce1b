"""CPC: predict the encoding of a patch further down from the patches above it."""

import math
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, Interval, StrOptions
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import PatchEncoder
from sklearn_ssl.nn import MaskedConvContext, gather, info_nce
from sklearn_ssl.views import Views

# transforms of a grid (n, d, rows, columns) that make a direction point down
_TURNS = {
    "down": lambda grid: grid,
    "up": lambda grid: grid.flip(2),
    "right": lambda grid: grid.transpose(2, 3),
    "left": lambda grid: grid.flip(3).transpose(2, 3),
}


class CPCTask(PretextTask):
    def __init__(self, encoder, views, *, train_grid, steps, context_blocks, negative_images):
        super().__init__(encoder, views)
        self.train_grid = train_grid
        self.steps = steps  # direction -> rows ahead to predict
        self.negative_images = negative_images
        width = encoder.out_shape[0]
        self.contexts = nn.ModuleDict({d: MaskedConvContext(width, context_blocks) for d in steps})
        self.predictors = nn.ModuleDict(
            {d: nn.ModuleList(nn.Conv2d(width, width, 1) for _ in steps[d]) for d in steps}
        )

    def forward(self, images, index):
        grid = self.train_grid
        patches = self.encoder.patches(self._crop(images))
        patches = self.views(patches)  # each patch is augmented independently
        [z] = self.encoder.encode(patches, grid, self.encoder.last_layer)  # (n, d, rows, columns)
        losses = []
        for direction, summarize in self.contexts.items():
            turned = _TURNS[direction](z)
            context = summarize(turned)
            predictors: Any = self.predictors[direction]
            for step, predictor in zip(self.steps[direction], predictors, strict=True):
                losses.append(self._look_ahead(turned, step, context, predictor))
        return TaskOutput(torch.stack(losses).mean())

    def _crop(self, images: Tensor) -> Tensor:
        """Cut a random crop out of each image, as large as a training grid."""
        n, _, *size = images.shape
        crop = self.encoder.covered(self.train_grid)
        corner = [
            torch.randint(side - part + 1, (n, 1), device=images.device)
            + torch.arange(part, device=images.device)
            for side, part in zip(size, crop, strict=True)
        ]
        which = torch.arange(n, device=images.device)[:, None, None]
        rows, columns = corner[0][:, :, None], corner[1][:, None]
        return images.permute(0, 2, 3, 1)[which, rows, columns].permute(0, 3, 1, 2)

    def _look_ahead(self, z: Tensor, step: int, context: Tensor, predictor: nn.Module) -> Tensor:
        """Compute InfoNCE for patches ``step`` rows below; negatives are all patches of a group."""
        target = z[:, :, step:]  # (n, d, rows - step, columns)
        prediction = predictor(context[:, :, :-step])
        if len(z) < self.negative_images:  # too few in one process
            target, prediction = gather(target), gather(prediction)
        groups = max(1, len(target) // self.negative_images)
        group = len(target) // groups
        shape = (groups, -1, z.shape[1])
        prediction, target = (
            grid[: groups * group].permute(0, 2, 3, 1).reshape(shape)
            for grid in (prediction, target)
        )
        return info_nce(prediction, target, temperature=z.shape[1] ** 0.5, gathered=False)


def _default_patch(side: int) -> int:
    return max(side // 4, min(4, side // 2), 1)


class CPC(PretextLearner):
    """Contrastive predictive coding [1]_, with the changes of its second version [2]_.

    An image is cut into a grid of overlapping patches, and each patch is encoded separately. A
    context network of masked convolutions summarizes the rows so far and predicts the encodings of
    patches some rows ahead. The loss (InfoNCE) compares each prediction with the right patch and
    with other patches, of the same and of other images. As in [2]_, prediction runs in four
    directions, the encoder uses layer norm, and each patch is augmented independently. Unlike in
    the papers, scores are divided by the square root of the encoding dimension to keep them
    moderate.

    The features of an image are its grid of patch encodings, pooled.

    Parameters
    ----------
    patch_size : int or None, default=None
        Side of a patch in pixels. ``None`` uses a quarter of the image's shorter side, but at least
        4 pixels (or half of a side below 8): a 7 x 7 grid for most images, as in the paper.
    overlap : float, default=0.5
        Minimum overlap of neighboring patches, as a fraction of the patch side, in [0, 1).
    directions : tuple of {"down", "up", "right", "left"} or None, default=None
        Directions in which to predict. ``None`` uses all for which the grid is large enough.
    prediction_steps : int, default=2
        Maximum number of distances to predict at, starting at the nearest patch that does not
        overlap (or at the farthest, if all overlap). Training encodes only a random crop, as large
        as the farthest prediction needs, so fewer distances make steps faster. By default the crop
        usually has 4 x 4 patches, and the context of a prediction is one or two rows; the paper
        predicts up to 5 steps ahead in 7 x 7 patches.
    context_blocks : int, default=2
        Number of residual blocks in the context network.
    negative_images : int, default=16
        Number of images whose patches are each other's negatives. The batch is split into equal
        groups of about this size; leftover images (fewer than there are groups) are not used.
    norm : {"layer", "batch"} or None, default=None
        Normalization layers of the encoder. ``"layer"`` replaces batch norm, whose statistics over
        patches give the answer away. ``None`` means ``"batch"`` with pretrained weights, else
        ``"layer"``.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] van den Oord, Li and Vinyals (2018), Representation Learning with Contrastive Predictive
       Coding, https://arxiv.org/abs/1807.03748
    .. [2] Hénaff et al. (2020), Data-Efficient Image Recognition with Contrastive Predictive
       Coding, https://arxiv.org/abs/1905.09272

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import CPC
    >>> X = load_digits().images[:256]
    >>> ssl = CPC(max_epochs=1, pool="avg", random_state=0).fit(X)
    >>> ssl.encoder_.grid, ssl.transform(X).shape
    ((3, 3), (256, 128))
    """

    patch_size: int | None = argument(COUNT, None, default=None)
    overlap: float = argument(Interval(Real, 0, 1, closed="left"), default=0.5)
    directions: tuple[str, ...] | None = argument(tuple, list, None, default=None)
    prediction_steps: int = argument(COUNT, default=2)
    context_blocks: int = argument(COUNT, default=2)
    negative_images: int = argument(COUNT, default=16)
    norm: str | None = argument(StrOptions({"layer", "batch"}), None, default=None)

    _usual_batch_size: ClassVar[int] = 32  # an image is many patches
    _shares_encoder: ClassVar[bool] = False

    def _make_encoder(self, image_shape, mean, std):
        fresh = self.norm is None and self.weights is None
        norm = "layer" if fresh or self.norm == "layer" else "batch"
        encoder = self._make_network(image_shape, mean, std, norm=norm)
        height, width, _ = image_shape
        if self.patch_size is not None:
            patch = (min(self.patch_size, height), min(self.patch_size, width))
        elif min(height, width) >= 4:
            patch = (_default_patch(min(height, width)),) * 2
        else:  # strips and the like
            patch = (_default_patch(height), _default_patch(width))
        stride = tuple(max(1, math.floor(side * (1 - self.overlap) + 1e-6)) for side in patch)
        return PatchEncoder(encoder, patch, stride)

    def _default_views(self):
        return Views(crop_scale=(0.6, 1.0), blur=0)

    def _make_task(self, encoder, n_images):
        train_grid = tuple(
            min(cells, apart + self.prediction_steps)
            for cells, apart in zip(encoder.grid, encoder.apart, strict=True)
        )
        steps = self._steps(encoder, train_grid)
        views = self._make_views(encoder.patch_size)
        return self._new_task(CPCTask, encoder, views, train_grid=train_grid, steps=steps)

    def _steps(self, patches: PatchEncoder, grid: tuple[int, ...]) -> dict[str, list[int]]:
        """Return how many rows ahead to predict, for each direction."""
        known = set(self.directions or ()) <= set(_TURNS)
        if not known or (self.directions is not None and not self.directions):
            raise ValueError(
                f"directions={self.directions!r} must be some of {', '.join(_TURNS)}, or None"
            )
        steps = {}
        for direction in self.directions or _TURNS:
            axis = 0 if direction in ("down", "up") else 1
            ahead = grid[axis] - 1
            if ahead < 1:
                if self.directions is None:
                    continue
                raise ValueError(
                    f"directions={self.directions!r}: the grid of {grid} patches is too small "
                    f"for {direction!r}; use a smaller patch_size or more overlap"
                )
            first = min(patches.apart[axis], ahead)
            steps[direction] = list(range(first, ahead + 1))[: self.prediction_steps]
        if not steps:
            height, width, channels = patches.image_shape
            raise ValueError(
                f"images of {height} x {width} pixels (n_features = {height * width * channels}) "
                f"have only one patch of {patches.patch_size}, but CPC needs at least two; use a "
                "smaller patch_size or larger images"
            )
        return steps
