"""Recipes that draw random views of images, one draw per image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from sklearn_ssl._utils._arguments import (
    COUNT,
    NOT_NEGATIVE,
    SHARE,
    DeclaredArguments,
    are_finite,
    argument,
)
from sklearn_ssl._utils._device import constants, full_precision
from sklearn_ssl._utils._ranks import by_rank
from sklearn_ssl.views import functional
from sklearn_ssl.views._centered import CenteredImages

__all__ = ["BYOL_VIEWS", "Views", "view_size"]


def view_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the default size of a view: half of each side, but no less than 16 pixels."""
    height, width = (min(side, max(16, side // 2)) for side in image_size)
    return height, width


# what the recipe of Grill et al. (2020), appendix B, changes for small images: two unlike views
BYOL_VIEWS: dict[str, Any] = {"jitter": (0.4, 0.4, 0.2, 0.1), "solarize": (0.0, 0.2)}


_PER_VIEW = ("gray", "blur", "solarize", "erase")  # probabilities that may differ between views

_ZOOM = 2.0  # sides of images to sides of views, as views are by default

_BLUR_SIDES = (64, 96)  # up to which views have no detail to lose, and from which on they have


class Views(DeclaredArguments, BaseEstimator):
    """A recipe for random views: crop, flip, color, blur and more, drawn for each image.

    Without arguments it is the recipe of SimCLR for small images [1]_. Probabilities are per image,
    and ``None`` or 0 turns an operation off. Color operations that only exist for RGB (saturation,
    hue, gray) are left out for other channel counts; brightness and contrast then turn about each
    channel's own mean.

    Parameters
    ----------
    size : int, tuple of int or None, default=None
        Side, or height and width, of a view in pixels. Views smaller than the image train faster
        and often better. ``None`` takes half of each side, but no less than 16 pixels.
    crop_scale : tuple of float or None, default=(0.1, 1.0)
        Range of the share of the image's area that is cropped. ``None`` resizes the whole image.
    crop_ratio : tuple of float, default=(3/4, 4/3)
        Range of the crop's aspect ratio, width to height.
    flip : float, default=0.5
        Probability of a left-right flip.
    rotate : bool, default=False
        Turn by 0, 1, 2 or 3 quarter turns at random; needs square views.
    jitter : tuple of float or None, default=(0.4, 0.4, 0.4, 0.1)
        Strength of brightness, contrast, saturation and hue changes. Factors are drawn in
        [1 - s, 1 + s], hue shifts in [-s, s] turns.
    jitter_p : float, default=0.8
        Probability of the color jitter.
    gray : float or tuple of float, default=0.2
        Probability of losing the color.
    blur : float, tuple of float, "auto" or None, default="auto"
        Probability of a Gaussian blur. A tuple has one probability for each view of an image.
        ``"auto"`` is that of the papers for views whose smaller side has 96 pixels or more: 0.5,
        and (1.0, 0.1) where ``solarize`` has one probability for each view, as in BYOL. Views of up
        to 64 pixels are not blurred then; in between it grows.
    blur_sigma : tuple of float, default=(0.1, 2.0)
        Range of the blur's standard deviation in pixels.
    solarize : float or tuple of float, default=0.0
        Probability of inverting the bright half of the values.
    erase : float or tuple of float, default=0.0
        Probability of erasing one box (cut-out) with 2 to 33 % of the area.
    noise : float, default=0.0
        Largest standard deviation of added Gaussian noise; drawn in [0, noise].

    References
    ----------
    .. [1] Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual
       Representations, appendix A and B.9.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssl import Views
    >>> views = Views(size=24, blur=(1.0, 0.1))
    >>> views(torch.rand(8, 3, 32, 32), view=1).shape
    torch.Size([8, 3, 24, 24])
    """

    size: int | tuple[int, int] | None = argument(COUNT, tuple, list, None, default=None)
    crop_scale: tuple[float, float] | None = argument(tuple, list, None, default=(0.1, 1.0))
    crop_ratio: tuple[float, float] = argument(tuple, list, default=(3 / 4, 4 / 3))
    flip: float | None = argument(SHARE, None, default=0.5)
    rotate: bool = argument("boolean", default=False)
    jitter: tuple[float, float, float, float] | None = argument(
        tuple, list, None, default=(0.4, 0.4, 0.4, 0.1)
    )
    jitter_p: float | None = argument(SHARE, None, default=0.8)
    gray: float | tuple[float, ...] | None = argument(SHARE, tuple, list, None, default=0.2)
    blur: float | tuple[float, ...] | str | None = argument(
        SHARE, tuple, list, StrOptions({"auto"}), None, default="auto"
    )
    blur_sigma: tuple[float, float] = argument(tuple, list, default=(0.1, 2.0))
    solarize: float | tuple[float, ...] | None = argument(SHARE, tuple, list, None, default=0.0)
    erase: float | tuple[float, ...] | None = argument(SHARE, tuple, list, None, default=0.0)
    noise: float | None = argument(NOT_NEGATIVE, None, default=0.0)

    def validate(self) -> None:
        """Raise ValueError or TypeError for arguments out of their range.

        Learners call it in ``fit``.
        """
        self._validate_params()
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            pair = getattr(self, name)
            if pair is not None and not (are_finite(pair, 2) and 0 < pair[0] <= pair[1]):
                raise ValueError(f"{name}={pair!r} must be two finite numbers, 0 < low <= high")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale={self.crop_scale!r} must be shares of the area, up to 1")
        if self.jitter is not None and not (are_finite(self.jitter, 4) and min(self.jitter) >= 0):
            raise ValueError(
                f"jitter={self.jitter!r} must be four finite strengths (brightness, contrast, "
                "saturation, hue), none negative, or None"
            )
        for name in _PER_VIEW:
            p = getattr(self, name)
            several = isinstance(p, (tuple, list))
            if several and not (p and all(map(SHARE.is_satisfied_by, p))):
                raise ValueError(f"{name}={p!r} must be probabilities, one for each view")
        if isinstance(self.size, (tuple, list)) and not (
            len(self.size) == 2 and all(COUNT.is_satisfied_by(s) for s in self.size)
        ):
            raise ValueError(f"size={self.size!r} must be (height, width), positive integers")

    def __call__(self, images: Tensor, view: int = 0) -> Tensor:
        """Draw one view of each image.

        Parameters
        ----------
        images : Tensor of shape (n, c, h, w)
            Float images in [0, 1].
        view : int, default=0
            Which of an image's views this is, for probabilities given per view.

        Returns
        -------
        Tensor of shape (n, c, \\*size)
        """
        _check_batch(images)
        with full_precision(images.device):
            if isinstance(images, CenteredImages):
                return self._draw(images, view, images.whole, images.sizes)
            return self._draw(images, view)

    @by_rank
    def _draw(
        self, images: Tensor, view: int, whole: Tensor | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        n, channels = images.shape[:2]
        images = self._crop(images, whole, sizes)
        if self.rotate:
            turns = (4 * torch.rand(n, device=images.device)).long()
            images = functional.rotate90(images, turns)
        if self.jitter is not None or self._p("gray", view) > 0:
            color = self._color_rgb if channels == 3 else self._color_any
            images = color(images, view)
        if p := self._blur_p(view, min(images.shape[2:])):
            size = max(images.shape[2:]) // 10
            low, high = self.blur_sigma
            sigma = self._uniform(images, low, high) * self._chance(images, p)
            images = functional.gaussian_blur(images, sigma, max(3, 2 * (size // 2) + 1))
        if p := self._p("solarize", view):
            threshold = 2.0 - 1.5 * self._chance(images, p)
            images = functional.solarize(images, threshold)
        if self.noise:
            sigma = self._uniform(images, 0, self.noise)
            images = functional.add_noise(images, sigma, torch.randn_like(images))
        if p := self._p("erase", view):
            boxes = functional.random_boxes(
                n, images.shape[2], images.shape[3], (0.02, 0.33), (0.3, 3.3), images.device
            )
            boxes = boxes.round() * self._chance(images, p)[:, None]
            images = functional.erase(images, boxes)
        return images

    def _p(self, name: str, view: int) -> float:
        p = getattr(self, name)
        return p[view % len(p)] if isinstance(p, (tuple, list)) else p or 0.0

    def _blur_p(self, view: int, side: int) -> float:
        if self.blur != "auto":
            return self._p("blur", view)
        of_papers = (1.0, 0.1)[view % 2] if isinstance(self.solarize, (tuple, list)) else 0.5
        none, whole = _BLUR_SIDES
        return of_papers * min(1.0, max(0.0, (side - none) / (whole - none)))

    @staticmethod
    def _uniform(images: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * images.new_empty(len(images)).uniform_()

    @staticmethod
    def _chance(images: Tensor, p: float) -> Tensor:
        return torch.rand(len(images), device=images.device) < p

    def size_for(self, image_shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the views of images of this height and width."""
        if self.size is None:
            return view_size((image_shape[0], image_shape[1]))
        height, width = self.size if np.iterable(self.size) else (self.size, self.size)
        return int(height), int(width)

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return the zoom of images beyond this shape at which most crops are not enlarged."""
        if self.crop_scale is None:
            return 1.0
        sides = zip(self.size_for(image_shape), image_shape, strict=False)
        return max(1.0, *(_ZOOM * view / side for view, side in sides))

    def _crop(self, images: Tensor, whole: Tensor | None, sizes: Tensor | None) -> Tensor:
        """Crop images, or the whole ones of these sizes that they are the middle of."""
        n, _, height, width = images.shape
        size = self.size_for((height, width))
        mirrored = self._chance(images, self.flip) if self.flip else None
        if self.crop_scale is not None:
            rows: Any = height
            columns: Any = width
            if whole is not None and sizes is not None:
                images, (rows, columns) = whole, sizes.unbind(1)
            boxes = functional.random_boxes(
                n, rows, columns, self.crop_scale, self.crop_ratio, images.device
            )
        elif size != (height, width):
            boxes = constants((0, 0, height, width), images).expand(n, 4)
        else:
            return images if mirrored is None else functional.flip(images, mirrored)
        return functional.crop_resize(images, boxes, size, mirrored)

    def _factors(self, images: Tensor, strength: float, jittered: Tensor) -> Tensor:
        factor = self._uniform(images, max(0.0, 1 - strength), 1 + strength)
        return factor.masked_fill(~jittered, 1.0)

    def _color_rgb(self, images: Tensor, view: int) -> Tensor:
        jittered = self._chance(images, self.jitter_p or 0.0)
        brightness, contrast, saturation, hue = self.jitter or (0, 0, 0, 0)
        grayed = self._chance(images, self._p("gray", view))
        images = functional.color_matrix(
            images,
            self._factors(images, brightness, jittered),
            self._factors(images, contrast, jittered),
            # a gray image is one of no saturation, and its hue does not matter
            self._factors(images, saturation, jittered).masked_fill(grayed, 0.0),
        )
        if hue:
            images = functional.adjust_hue(images, self._uniform(images, -hue, hue) * jittered)
        return images

    def _color_any(self, images: Tensor, view: int) -> Tensor:
        if self.jitter is None:
            return images
        jittered = self._chance(images, self.jitter_p or 0.0)
        brightness, contrast = self.jitter[:2]
        images = functional.adjust_brightness(images, self._factors(images, brightness, jittered))
        return functional.adjust_contrast(images, self._factors(images, contrast, jittered))


def _check_batch(images: Any) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        kind = f"{type(images).__name__} of shape {np.shape(images)}"
        raise TypeError(f"views are made of float tensors (n, c, h, w) in [0, 1], not of a {kind}")
