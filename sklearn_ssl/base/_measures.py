"""Measures that need no labels: loss, views, and how far a training moved the features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssl._utils._torch import OwnRandomNumbers, autocast, draw_seed, own_settings
from sklearn_ssl.base._transformer import apply
from sklearn_ssl.images import Images, warn_of_files
from sklearn_ssl.metrics import linear_cka

_IMAGES_SEEN = 512
_IMAGES_NEEDED = 4  # by the debiased estimator


class FeatureDrift:
    """Change of the features of some images in a training.

    Parameters
    ----------
    net : PretextNet
        Before it is trained.
    images : Images
        Those that are trained on, of which 512 at most are looked at.
    """

    def __init__(self, net: Any, images: Images):
        rows = np.unique(np.linspace(0, len(images) - 1, _IMAGES_SEEN).astype(int))
        pixels = images.take(rows).permute(0, 2, 3, 1).numpy()
        self.images = Images(pixels, shape=images.shape)
        self.before = self._features(net)

    def record(self, net: Any) -> None:
        """Add ``moved`` to the last epoch of the net's history: 1 minus debiased linear CKA.

        Of fewer than four images it is not known, and not added.
        """
        if len(self.before) >= _IMAGES_NEEDED:
            net.history.record("moved", 1 - linear_cka(self.before, self._features(net)))

    def _features(self, net: Any) -> np.ndarray:
        encoder = net.encoder
        wanted = [(encoder.default_layer, "avg")]
        return apply(net, lambda pixels: encoder.features(pixels, wanted), self.images)


def pretext_loss(learner: Any, X: Any, random_state: Any) -> float:
    """Compute the mean loss of the pretext task on images."""
    images = learner._read_images(X, broken="replace")
    device, net = learner.device_, learner.net_.copied()  # batch norm moves its averages
    task = net.module_.task
    if task.n_images is not None:
        raise ValueError(
            f"{type(learner).__name__} keeps something of each of its {task.n_images} images, so "
            "it has no loss for others"
        )
    size = min(net.batch_size, len(images))
    draws = OwnRandomNumbers(device, draw_seed(random_state))
    losses = []
    net.module_.train()
    with own_settings(device), torch.no_grad():
        for start in range(0, len(images) - size + 1, size):
            rows = np.arange(start, start + size)
            batch = images.take(rows).to(device), torch.from_numpy(rows).to(device)
            with draws, autocast(device, net.precision):
                losses.append(net.module_(*batch).loss.float())
    warn_of_files(images, "others were taken in their place")
    return torch.stack(losses).mean().item()


def of_views(
    learner: Any,
    X: Any,
    n_views: int,
    random_state: Any,
    function: Callable[[list[Tensor]], Tensor],
) -> np.ndarray:
    """Draw views of images by the learner's recipe, and apply a function to them."""
    images = learner._read_images(X)
    views = learner._plainly()._make_views(learner.image_shape_[:2])
    draws = OwnRandomNumbers(learner.device_, draw_seed(random_state))

    def drawn(pixels: Tensor) -> Tensor:
        with draws:
            found = [views(pixels, i % 2) for i in range(n_views)]
        return function(found)

    return apply(learner.net_, drawn, images)
