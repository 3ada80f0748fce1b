"""Images beside each other, as scikit-learn's Display classes."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from sklearn_ssl.inspection._curves import Display

__all__ = [
    "FeatureMapDisplay",
    "NeighborsDisplay",
    "ReconstructionDisplay",
    "ViewsDisplay",
]

_REDRAWING = ("reconstruct", "inpaint", "colorize")  # make images of images, and train nothing


def _shown(image: np.ndarray) -> np.ndarray:
    """An image (h, w, c) in [0, 1] as matplotlib shows it."""
    if image.shape[2] == 3:
        return image
    return np.repeat(image.mean(2, keepdims=True), 3, axis=2)


def _pixels(learner: Any, X: Any) -> np.ndarray:
    """Images (n, h, w, c) in [0, 1], as the learner sees them."""
    images = learner._read_images(X)
    scaled = learner._apply(lambda pixels: pixels, images)
    return scaled.transpose(0, 2, 3, 1).clip(0, 1)


class _Grid(Display):
    """Rows of images."""

    images: np.ndarray
    titles: Sequence[str] = ()

    def _size(self) -> tuple[float, float]:
        rows, columns, height, width, _ = self.images.shape
        return 0.2 + 0.9 * columns, 0.4 + 0.9 * rows * height / width

    def _draw(self, ax: Any) -> None:
        rows, columns, height, width, _ = self.images.shape
        gap = max(1, width // 16)
        canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
        for i in range(rows):
            for j in range(columns):
                top, left = i * (height + gap), j * (width + gap)
                canvas[top : top + height, left : left + width] = _shown(self.images[i, j])
        ax.imshow(canvas, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        for j, title in enumerate(self.titles):
            ax.text(
                j * (width + gap) + width / 2, -gap, title, ha="center", va="bottom", fontsize=8
            )


class FeatureMapDisplay(Display):
    """Images at their places on a map of two dimensions.

    Parameters
    ----------
    places : ndarray of shape (n, 2)
    images : ndarray of shape (n, height, width, channels)
        In [0, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, places: np.ndarray, images: np.ndarray):
        self.places = places
        self.images = images

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, reducer: Any = None, ax: Any = None) -> Self:
        """Of the features that a fitted learner gives images.

        Parameters
        ----------
        estimator : PretextLearner
        X : array-like
            Images; some hundreds can be told apart.
        reducer : transformer or None, default=None
            From features to two dimensions, fitted as a clone; ``None`` takes t-SNE of 50 principal
            components.
        ax : matplotlib Axes, optional

        Returns
        -------
        FeatureMapDisplay
        """
        features = estimator.transform(X)
        if reducer is None:
            from sklearn.manifold import TSNE

            n = min(50, *features.shape)
            features = PCA(n, random_state=0).fit_transform(features)
            reducer = TSNE(perplexity=min(30, len(features) / 4), random_state=0)
        places = clone(reducer).fit_transform(features)
        return cls(places, _pixels(estimator, X)).plot(ax)

    def _size(self) -> tuple[float, float]:
        return 7, 7

    def _draw(self, ax: Any) -> None:
        low, high = self.places.min(0), self.places.max(0)
        places = (self.places - low) / np.maximum(high - low, 1e-12)
        side = 0.5 / len(places) ** 0.5  # of an image, in a square of side 1
        for (x, y), image in zip(places, self.images, strict=True):
            ax.imshow(_shown(image), extent=(x, x + side, y, y + side), interpolation="nearest")
        ax.set(xlim=(-side, 1 + 2 * side), ylim=(-side, 1 + 2 * side), xticks=[], yticks=[])
        ax.set_aspect("equal")
        ax.spines[:].set_visible(False)


class NeighborsDisplay(_Grid):
    """Nearest images of some, by the cosine of their features.

    Parameters
    ----------
    images : ndarray of shape (n_queries, 1 + n_neighbors, height, width, channels)
        In [0, 1]; queries come first.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self.titles = ("query",)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, queries: Any, *, n_neighbors: int = 8, ax: Any = None
    ) -> Self:
        """Of the features that a fitted learner gives images.

        Parameters
        ----------
        estimator : PretextLearner
        X : array-like
            Images among which neighbors are looked for.
        queries : array-like
            Images; one that is found itself is left out.
        n_neighbors : int, default=8
        ax : matplotlib Axes, optional

        Returns
        -------
        NeighborsDisplay
        """
        known, asked = (normalize(estimator.transform(images)) for images in (X, queries))
        cosines = asked @ known.T
        cosines[cosines > 1 - 1e-6] = -1  # themselves
        nearest = np.argsort(-cosines, axis=1)[:, :n_neighbors]
        pixels, of_queries = _pixels(estimator, X), _pixels(estimator, queries)
        return cls(np.concatenate([of_queries[:, None], pixels[nearest]], axis=1)).plot(ax)


class ViewsDisplay(_Grid):
    """Images, and views of them as the task sees them.

    Parameters
    ----------
    images : ndarray of shape (n, 1 + n_views, height, width, channels)
        In [0, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self.titles = ("image", "views")

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, n_views: int = 6, random_state: Any = 0, ax: Any = None
    ) -> Self:
        """Of a fitted learner, by its recipe; views are shown as large as images.

        Parameters
        ----------
        estimator : PretextLearner
        X : array-like
            Some images.
        n_views : int, default=6
        random_state : int, RandomState instance or None, default=0
        ax : matplotlib Axes, optional

        Returns
        -------
        ViewsDisplay
        """
        pixels = _pixels(estimator, X)
        views = estimator.draw_views(X, n_views, random_state=random_state)
        height, width = pixels.shape[1:3]
        rows = np.arange(height) * views.shape[2] // height
        columns = np.arange(width) * views.shape[3] // width
        enlarged = views[:, :, rows][:, :, :, columns]
        return cls(np.concatenate([pixels[:, None], enlarged], axis=1)).plot(ax)


class ReconstructionDisplay(_Grid):
    """Images, and what a generative learner makes of them.

    Parameters
    ----------
    images : ndarray of shape (2, n, height, width, channels)
        In [0, 1]: images, and below them what was made.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, images: np.ndarray):
        self.images = images

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, method: str | None = None, mask: Any = None, ax: Any = None
    ) -> Self:
        """Of a fitted generative learner.

        Parameters
        ----------
        estimator : PretextLearner
        X : array-like
            Some images.
        method : {"reconstruct", "inpaint", "colorize"} or None, default=None
            ``None`` takes the one that the learner has.
        mask : bool array-like of shape (height, width) or (n, height, width), optional
            What is hidden, for ``"inpaint"``; by default the middle.
        ax : matplotlib Axes, optional

        Returns
        -------
        ReconstructionDisplay
        """
        method, pixels = _redrawing(estimator, method), _pixels(estimator, X)
        more: tuple = ()
        if method == "inpaint":
            _, height, width, _ = pixels.shape
            if mask is None:
                top, left = height // 4, width // 4
                mask = np.zeros((height, width), bool)
                mask[top : height - top, left : width - left] = True
            more = (mask,)
        made = getattr(estimator, method)(X, *more)
        if more:
            pixels = np.where(np.asarray(mask, bool)[..., None], 0.5, pixels)
        return cls(np.stack([pixels, _pixels(estimator, made)])).plot(ax)


def _redrawing(learner: Any, method: str | None) -> str:
    """Name of a learner's method that makes images of images; no other method is ever called."""
    known = [name for name in _REDRAWING if hasattr(learner, name)]
    if not known:
        raise ValueError(
            f"estimator: {type(learner).__name__} makes no images of images; give a generative "
            "learner, such as MaskedAutoencoder"
        )
    if method is None:
        return known[0]
    if method not in known:
        raise ValueError(
            f"method={method!r} must be None or a way in which {type(learner).__name__} makes "
            f"images: {', '.join(map(repr, known))}"
        )
    return method
