"""Small crops beside the two views of an image, for learners that compare views."""

from typing import Any

from sklearn_ssl._utils._arguments import COUNT_OR_ZERO, DeclaredArguments, argument
from sklearn_ssl.views import MultiCrop

__all__ = ["MultiCropArguments"]


class MultiCropArguments(DeclaredArguments):
    """Arguments of small crops."""

    local_crops: int = argument(
        COUNT_OR_ZERO,
        default=0,
        doc="""int
Number of small crops of each image beside its two views, of half their side, but 12 pixels at
least. Each is compared with both views (multi-crop, Caron et al. 2020).""",
    )
    local_scale: tuple[float, float] = argument(
        tuple,
        list,
        default=(0.1, 0.4),
        doc="""tuple of float
Range of the share of the image's area that small crops have.""",
    )

    def _make_crops(self: Any, encoder: Any) -> MultiCrop:
        return MultiCrop(
            self._make_views(), self.local_crops, self.local_scale, encoder.image_shape
        )
