"""Supervised task, for learners that start from pretrained weights."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import argument
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput
from sklearn_ssl.nn import gather, resize_images


class SupervisedTask(PretextTask):
    """Linear head on the encoder's last feature map, and the targets of all images."""

    targets: Tensor

    def __init__(self, encoder, views, *, targets, n_outputs, loss):
        super().__init__(encoder, views)
        self.n_images = len(targets)
        self.size = views.size_for(encoder.image_shape) if hasattr(views, "size_for") else None
        self.head = nn.Linear(encoder.out_shape[0], n_outputs)
        self.register_buffer("targets", targets)
        self.loss = loss

    def forward(self, images, index):
        return TaskOutput(self.loss(self.outputs(self.views(images)), self.targets[index]))

    def outputs(self, images: Tensor) -> Tensor:
        """Compute outputs (n, n_outputs) for images (n, c, h, w) of the size of the views."""
        return self.head(self.encoder.embed(images)).float()

    def predicted(self, images: Tensor, mirror: bool) -> Tensor:
        """Compute outputs for whole images, resized to the size of the training views.

        With ``mirror``, they are averaged over an image and its mirror image.
        """
        images = resize_images(images, self.size)
        outputs = self.outputs(images)
        return (outputs + self.outputs(images.flip(3))) / 2 if mirror else outputs


class Supervised(PretextLearner):
    """Learner whose task has labels; its source and targets are arguments."""

    source: Any = argument(default=None)  # a fitted learner, or None
    targets: Any = argument(default=None)
    n_outputs: Any = argument(default=None)
    loss: Any = argument(default=None)

    def _make_encoder(self, image_shape, mean, std):
        if self.source is None:
            return super()._make_encoder(image_shape, mean, std)
        if self._filled:
            return copy.deepcopy(self.source.encoder_)
        source = self.source._with_python_scalars()  # the stored weights will fill it
        source._filled = False
        return source._make_encoder(image_shape, mean, std)

    def _build_net(self, images, batch_size, device):
        if len(images) != len(self.targets):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"[{len(images)}, {len(self.targets)}]"
            )
        if self.source is None:
            return super()._build_net(images, batch_size, device)
        if images.shape != self.source.image_shape_:
            raise ValueError(
                f"X has images of shape {images.shape}, but the learner was fitted to images of "
                f"shape {self.source.image_shape_}; give images of that shape"
            )
        pixels = copy.deepcopy(self.source.net_.module_.pixels)
        images.origin = pixels.origin
        pixels.check(images)
        encoder = self._make_encoder(images.shape, [], [])
        return self._assemble(pixels, encoder, batch_size, device)

    def _make_task(self, encoder, n_images):
        views = self._make_views(encoder.image_shape[:2])
        return self._new_task(SupervisedTask, encoder, views)


@dataclass
class ClassificationLoss:
    """Cross entropy with class weights."""

    weights: list[float] | None
    label_smoothing: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.weights is None:
            return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)
        weights = torch.tensor(self.weights, device=outputs.device)
        options: dict[str, Any] = {"label_smoothing": self.label_smoothing, "reduction": "sum"}
        total = gather(weights[targets].sum()[None]).mean()  # over the whole batch
        return F.cross_entropy(outputs, targets, weights, **options) / total


@dataclass
class IndicatorLoss:
    """Binary cross entropy for each class, for images with several labels."""

    label_smoothing: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        share = self.label_smoothing
        return F.binary_cross_entropy_with_logits(outputs, targets * (1 - share) + share / 2)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared error over images and targets."""
    return F.mse_loss(outputs, targets)
