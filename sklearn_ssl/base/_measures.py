"""Label-free measures: the pretext loss, views, and how far training moved the features."""

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
_IMAGES_NEEDED = 4  # for the debiased estimator


class FeatureDrift:
    """Change in the features of the training images during a fit.

    Parameters
    ----------
    net : PretextNet
        Net before training.
    images : Images
        Training images, of which at most 512 are used.
    """

    def __init__(self, net: Any, images: Images):
        rows = np.unique(np.linspace(0, len(images) - 1, _IMAGES_SEEN).astype(int))
        pixels = images.take(rows).permute(0, 2, 3, 1).numpy()
        self.images = Images(pixels, shape=images.shape)
        self.before = self._features(net)

    def record(self, net: Any) -> None:
        """Add ``moved`` to the last record of the net's history: 1 minus debiased linear CKA.

        With fewer than four images it is undefined, and not added.
        """
        if len(self.before) >= _IMAGES_NEEDED:
            net.history.record("moved", 1 - linear_cka(self.before, self._features(net)))

    def _features(self, net: Any) -> np.ndarray:
        encoder = net.encoder
        spec = [(encoder.default_layer, "avg")]

        def features(pixels: Tensor) -> Tensor:
            return encoder.features(pixels, spec)

        return apply(net, features, self.images, checked=False)


def pretext_loss(learner: Any, X: Any, random_state: Any) -> float:
    """Compute the mean pretext loss on images."""
    images = learner._read_images(X, broken="replace")
    device, net = learner.device_, learner.net_.copied()  # batch norm updates its averages
    task = net.module_.task
    if task.n_images is not None:
        raise ValueError(
            f"{type(learner).__name__} stores something for each of its {task.n_images} training "
            "images, so it has no loss for others"
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
    warn_of_files(images, "were replaced by others")
    return torch.stack(losses).mean().item()


def of_views(
    learner: Any,
    X: Any,
    n_views: int,
    random_state: Any,
    function: Callable[[list[Tensor]], Tensor],
) -> np.ndarray:
    """Draw views of images with the learner's recipe, and apply a function to them."""
    images = learner._read_images(X)
    views = learner._with_python_scalars()._make_views(learner.image_shape_[:2])
    draws = OwnRandomNumbers(learner.device_, draw_seed(random_state))

    def drawn(pixels: Tensor) -> Tensor:
        with draws:
            found = [views(pixels, i % 2) for i in range(n_views)]
        return function(found)

    return apply(learner.net_, drawn, images)
