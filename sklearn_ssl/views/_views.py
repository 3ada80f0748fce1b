"""Random views by recipes or functions, and center crops that keep their whole images."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from sklearn_ssl._utils._estimators import (
    COUNT,
    NOT_NEGATIVE,
    SHARE,
    DeclaredArguments,
    StrOptions,
    are_finite,
    argument,
    plain,
)
from sklearn_ssl._utils._torch import constants, full_precision
from sklearn_ssl.views import functional
from sklearn_ssl.views.functional import crop_resize


class CenteredImages(Tensor):
    """Center crops of images of different sizes; views crop from the whole images.

    Operations on this tensor return plain tensors.

    Attributes
    ----------
    whole : Tensor of shape (n, c, height, width)
        The whole images, each in the upper left corner.
    sizes : Tensor of shape (n, 2)
        Their heights and widths.
    """

    __torch_function__: Any = torch._C._disabled_torch_function_impl  # as in nn.Parameter

    whole: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, whole: Tensor, sizes: Tensor, size: tuple[int, int]) -> "CenteredImages":
        """Center-crop images to the aspect ratio of ``size``, and resize them to it."""
        sizes = sizes.to(whole.dtype)
        wanted = constants(size, whole)
        lengths = wanted * (sizes / wanted).amin(1, keepdim=True)
        with full_precision(whole.device):
            middle = crop_resize(whole, torch.cat([(sizes - lengths) / 2, lengths], dim=1), size)
        images = middle.as_subclass(cls)
        images.whole, images.sizes = whole, sizes
        return images


def view_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Return the default size of a view: half of each side, but at least 16 pixels."""
    height, width = (min(side, max(16, side // 2)) for side in image_size)
    return height, width


# changes for BYOL on small images (Grill et al. 2020, appendix B): its two views differ
BYOL_VIEWS: dict[str, Any] = {"jitter": (0.4, 0.4, 0.2, 0.1), "solarize": (0.0, 0.2)}


_PER_VIEW = ("gray", "blur", "solarize", "erase")  # probabilities that may differ between views

_ZOOM = 2.0  # default ratio of image sides to view sides

_BLUR_SIDES = (64, 96)  # no blur up to the first (no detail to lose), full blur from the second


class Views(DeclaredArguments, BaseEstimator):
    """Recipe for random views: crop, flip, color, blur and more, drawn for each image.

    The default is SimCLR's recipe for small images [1]_. Probabilities are per image, and ``None``
    or 0 turns an operation off. Color operations that exist only for RGB (saturation, hue, gray)
    are skipped for other channel counts; contrast is then relative to each channel's own mean.

    Parameters
    ----------
    size : int, tuple of int or None, default=None
        Side, or height and width, of a view in pixels. Views smaller than the image train faster
        and often better. ``None`` uses half of each side, but at least 16 pixels.
    crop_scale : tuple of float or None, default=(0.1, 1.0)
        Range of the crop's area as a fraction of the image. ``None`` resizes the whole image.
    crop_ratio : tuple of float, default=(3/4, 4/3)
        Range of the crop's aspect ratio (width / height).
    flip : float, default=0.5
        Probability of a left-right flip.
    rotate : bool, default=False
        Rotate by 0, 1, 2 or 3 quarter turns at random; needs square views.
    jitter : tuple of float or None, default=(0.4, 0.4, 0.4, 0.1)
        Strengths s of brightness, contrast, saturation and hue changes. Factors are drawn from
        [1 - s, 1 + s], hue shifts from [-s, s] turns.
    jitter_p : float, default=0.8
        Probability of color jitter.
    gray : float or tuple of float, default=0.2
        Probability of conversion to grayscale.
    blur : float, tuple of float, "auto" or None, default="auto"
        Probability of a Gaussian blur. A tuple has one probability for each view of an image.
        ``"auto"`` uses the papers' probability for views whose shorter side has at least 96 pixels:
        0.5, or (1.0, 0.1) if ``solarize`` has one probability per view, as in BYOL. It is 0 for
        views of up to 64 pixels, and grows linearly in between.
    blur_sigma : tuple of float, default=(0.1, 2.0)
        Range of the blur's standard deviation in pixels.
    solarize : float or tuple of float, default=0.0
        Probability of inverting the bright half of the values.
    erase : float or tuple of float, default=0.0
        Probability of erasing one box (cutout) with 2 to 33% of the area.
    noise : float, default=0.0
        Maximum standard deviation of added Gaussian noise; drawn from [0, noise].

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
        """Raise ValueError or TypeError for invalid arguments.

        Learners call it in ``fit``.
        """
        self._validate_params()
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            pair = getattr(self, name)
            if pair is not None and not (are_finite(pair, 2) and 0 < pair[0] <= pair[1]):
                raise ValueError(f"{name}={pair!r} must be two finite numbers, 0 < low <= high")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale={self.crop_scale!r} must be fractions of the area, <= 1")
        if self.jitter is not None and not (are_finite(self.jitter, 4) and min(self.jitter) >= 0):
            raise ValueError(
                f"jitter={self.jitter!r} must be four finite strengths (brightness, contrast, "
                "saturation, hue), none negative, or None"
            )
        for name in _PER_VIEW:
            p = getattr(self, name)
            several = isinstance(p, (tuple, list))
            if several and not (p and all(map(SHARE.is_satisfied_by, p))):
                raise ValueError(f"{name}={p!r} must be probabilities in [0, 1], one for each view")
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
            Index of the view, for probabilities given per view.

        Returns
        -------
        Tensor of shape (n, c, \\*size)
        """
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            kind = f"{type(images).__name__} of shape {np.shape(images)}"
            raise TypeError(f"views need a float tensor (n, c, h, w) in [0, 1], but got a {kind}")
        with full_precision(images.device):
            return self._draw(images, view)

    def _draw(self, images: Tensor, view: int) -> Tensor:
        n, channels = images.shape[:2]
        images = self._crop(images)
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
        """Return the height and width of views for images of this height and width."""
        if self.size is None:
            return view_size((image_shape[0], image_shape[1]))
        height, width = self.size if np.iterable(self.size) else (self.size, self.size)
        return int(height), int(width)

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return the zoom over this shape at which images are large enough for most crops."""
        if self.crop_scale is None:
            return 1.0
        sides = zip(self.size_for(image_shape), image_shape, strict=False)
        return max(1.0, *(_ZOOM * view / side for view, side in sides))

    def _crop(self, images: Tensor) -> Tensor:
        """Crop images, from the whole ones if they are center crops."""
        n, _, height, width = images.shape
        size = self.size_for((height, width))
        mirrored = self._chance(images, self.flip) if self.flip else None
        if self.crop_scale is not None:
            rows: Any = height
            columns: Any = width
            if isinstance(images, CenteredImages):
                rows, columns = images.sizes.unbind(1)
                images = images.whole
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
            # a gray image has no saturation, so its hue does not matter
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


class CallableViews:
    """Views drawn by a function of a batch of images.

    Parameters
    ----------
    function : callable
        Function that maps a float tensor (n, c, h, w) in [0, 1] to one of n views, all of one
        size. If it has an argument named ``view``, it receives the index of the view.
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        try:
            self.takes_view = "view" in inspect.signature(function).parameters
        except (TypeError, ValueError):  # a C function
            self.takes_view = False

    def __call__(self, images: Tensor, view: int = 0) -> Tensor:
        """Draw one view of each image."""
        which = {"view": view} if self.takes_view else {}
        with full_precision(images.device):
            views = self.function(images, **which)
        usable = isinstance(views, Tensor) and views.is_floating_point() and views.ndim == 4
        if not usable or views.shape[:2] != images.shape[:2]:
            found = f"a {type(views).__name__}"
            if isinstance(views, Tensor):
                found = f"a tensor of shape {tuple(views.shape)} and type {views.dtype}"
            raise ValueError(
                f"views={self.function!r} returned {found} for images of {tuple(images.shape)}; "
                "it must return a tensor of floats in [0, 1] with as many images and channels"
            )
        return views.to(images.dtype)

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return 1: the function receives images cropped to this shape."""
        return 1.0

    def size_for(self, image_shape: Sequence[int]) -> tuple[int, int]:
        """Return the height and width of views for images of this height, width and channels."""
        height, width, channels = image_shape
        rows, columns = self(torch.zeros(2, channels, height, width)).shape[2:]
        return rows, columns


def as_views(views: Any, size: Any = None) -> "Views | CallableViews":
    """Return views for tasks: a copy of ``Views`` with plain Python numbers, or a function.

    ``size`` is used by recipes that have none.
    """
    if not isinstance(views, Views):
        return CallableViews(views)
    params = {name: plain(value) for name, value in views.get_params().items()}
    if params["size"] is None:
        params["size"] = size
    return Views(**params)


@dataclass(frozen=True)
class MultiCrop:
    """Two large views of each image, and several small views of small parts of it.

    Parameters
    ----------
    views : Views or CallableViews
        Recipe of the large views. The small ones use it with another size and scale, and are not
        solarized.
    n_local : int
        Number of small views.
    local_scale : tuple of float
        Range of a small view's area as a fraction of the image.
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
                f"local_scale={low_high!r} must be two fractions of the area, 0 < low <= high <= 1"
            )
        if self.n_local and not isinstance(self.views, Views):
            raise ValueError(
                "small crops need a recipe, but views is a callable: give local_crops=0, or a "
                "Views object"
            )

    def zoom_for(self, image_shape: Sequence[int]) -> float:
        """Return the zoom of the views."""
        return self.views.zoom_for(image_shape)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Draw batches of large crops (2n, c, h, w) and small crops (n_local * n, c, h', w')."""
        crops = [torch.cat([self.views(images, view) for view in (0, 1)])]
        if self.n_local:
            # half the side, but at least 12 pixels if the large crops have them
            large = self.views.size_for(self.image_shape)
            size = [max(1, side // 2, min(side, 12)) for side in large]
            local = clone(self.views).set_params(
                size=size, crop_scale=self.local_scale, solarize=0.0
            )
            crops.append(torch.cat([local(images, view) for view in range(self.n_local)]))
        return crops
