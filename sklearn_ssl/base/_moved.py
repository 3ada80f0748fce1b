"""How far a training moved the features that pretrained weights had."""

from typing import Any

import numpy as np

from sklearn_ssl.images import Images
from sklearn_ssl.inference import apply
from sklearn_ssl.metrics import linear_cka

__all__ = ["Moved"]

_IMAGES_SEEN = 512
_IMAGES_NEEDED = 4  # by the debiased estimator


class Moved:
    """Features of some images before a training, to compare with those after it.

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
