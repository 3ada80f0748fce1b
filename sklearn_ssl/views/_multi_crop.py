"""Large and small crops of each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor

from sklearn_ssl._utils._arguments import are_finite
from sklearn_ssl.views._views import Views

__all__ = ["MultiCrop"]


@dataclass(frozen=True)
class MultiCrop:
    """Two views of each image, and some smaller ones of small parts of it.

    Parameters
    ----------
    views : Views or CallableViews
        Recipe of the two. The smaller ones follow it but for size and scale, and are not solarized.
    n_local : int
        Number of the smaller ones.
    local_scale : tuple of float
        Range of the share of the image's area that they crop.
    image_shape : tuple of int
        Height, width and channels.

    References
    ----------
    Caron et al. (2020), Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments, section 3.2.
    """

    views: Any
    n_local: int
    local_scale: Sequence[float]
    image_shape: Sequence[int]

    def __post_init__(self) -> None:
        low_high = self.local_scale
        if not are_finite(low_high, 2) or not 0 < low_high[0] <= low_high[1] <= 1:
            raise ValueError(
                f"local_scale={low_high!r} must be two shares of the area, 0 < low <= high <= 1"
            )
        if self.n_local and not isinstance(self.views, Views):
            raise ValueError(
                "small crops are made by the recipe of views, and a callable has none: give "
                "local_crops=0, or a Views object"
            )

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return the zoom of the views."""
        return self.views.zoom_for(image_shape)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Draw a batch of large crops (2n, c, h, w), and one of small (n_local * n, c, h', w')."""
        crops = [torch.cat([self.views(images, view) for view in (0, 1)])]
        if self.n_local:
            # half the side, but not less than 12 pixels where the large ones have them
            large = self.views.size_for(self.image_shape)
            size = [max(1, side // 2, min(side, 12)) for side in large]
            local = clone(self.views).set_params(
                size=size, crop_scale=self.local_scale, solarize=0.0
            )
            crops.append(torch.cat([local(images, view) for view in range(self.n_local)]))
        return crops
