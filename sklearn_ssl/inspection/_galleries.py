"""Displays of several images, in the style of scikit-learn."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from torch import Tensor

from sklearn_ssl._utils._estimators import COUNT, HasMethods, validate_params
from sklearn_ssl._utils._labels import read_labels, read_targets
from sklearn_ssl._utils._messages import naming
from sklearn_ssl.images import Images, read_images
from sklearn_ssl.inspection._curves import Display, pyplot
from sklearn_ssl.inspection._given import check_learner, check_pictures

_REDRAWING = ("reconstruct", "inpaint", "colorize")  # return images, and train nothing
_UNLABELED = "lightgray"


def _shown(image: np.ndarray) -> np.ndarray:
    """Convert an image (h, w, c) in [0, 1] to RGB."""
    if image.shape[2] == 3:
        return image
    return np.repeat(image.mean(2, keepdims=True), 3, axis=2)


def _as_pictures(pixels: Tensor) -> np.ndarray:
    """Convert images (n, c, h, w) in [0, 1] to (n, h, w, c)."""
    return pixels.permute(0, 2, 3, 1).clamp(0, 1).cpu().numpy()


def _seen_by(learner: Any, X: Any, rows: np.ndarray | None = None) -> np.ndarray:
    """Return images (n, h, w, c) in [0, 1] as the learner sees them, for all rows or some.

    Skipped files are NaN.
    """
    images, pixels = learner._read_images(X, broken="blank"), learner.net_.module_.pixels
    rows = np.arange(len(images)) if rows is None else rows
    pictures = _as_pictures(pixels(images.take(rows).to(pixels.offset.device)))
    pictures[np.isin(rows, list(images.skipped))] = np.nan
    return pictures


def _read(X: Any) -> Images:
    """Read images in any form that learners accept."""
    reading = {"broken": "blank"}
    return read_images(X, estimator=BaseEstimator(), min_images=1, reading=reading)


def _scaled(images: Images, rows: np.ndarray) -> np.ndarray:
    """Read images (n, h, w, c), scaled to [0, 1] by their type or their own range."""
    batch = images.take(rows)
    if images.is_uint8:
        return _as_pictures(batch / 255)
    low, high = batch.amin(), batch.amax()
    return _as_pictures((batch - low) / (high - low).clamp(min=1e-12))


def _are_read(pictures: np.ndarray) -> np.ndarray:
    """Return a mask of the images that were read; skipped files are NaN."""
    there = ~np.isnan(pictures).any((1, 2, 3))
    if not there.any():
        raise ValueError("X has no readable image")
    return there


def _of(features: Any, name: str, n_images: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return features as an array, and the rows without NaN; skipped files have NaN."""
    with naming(name):
        features = check_array(features, ensure_all_finite="allow-nan")
    if n_images is not None and n_images != len(features):
        raise ValueError(f"{name} has {len(features)} rows, but X has {n_images} images")
    rows = np.flatnonzero(~np.isnan(features).any(1))
    if len(rows) == 0:
        raise ValueError(f"all {len(features)} rows of {name} contain NaN")
    return features, rows


class _Grid(Display):
    """Base of displays of images in a grid."""

    images: np.ndarray
    titles: Sequence[str] = ()
    captions: Sequence[Sequence[str]] = ()  # below each image

    def _check(self) -> None:
        check_pictures(self.images, 5)

    def _gaps(self) -> tuple[int, int]:
        """Return the gaps between rows and between columns, in pixels."""
        width = self.images.shape[3]
        gap = max(1, width // 16)
        return gap + (max(1, round(0.18 * width)) if len(self.captions) else 0), gap

    def _size(self) -> tuple[float, float]:
        rows, columns, height, width, _ = self.images.shape
        return 0.2 + 0.9 * columns, 0.4 + 0.9 * rows * (height + self._gaps()[0]) / width

    def _draw(self, ax: Any) -> None:
        rows, columns, height, width, _ = self.images.shape
        down, right = self._gaps()
        canvas = np.ones((rows * (height + down), columns * (width + right) - right, 3))
        for i in range(rows):
            for j in range(columns):
                top, left = i * (height + down), j * (width + right)
                canvas[top : top + height, left : left + width] = _shown(self.images[i, j])
                if len(self.captions):
                    below = {"xytext": (0, -2), "textcoords": "offset points", "fontsize": 6}
                    at = left + (width - 1) / 2, top + height - 0.5
                    ax.annotate(self.captions[i][j], at, ha="center", va="top", **below)
        ax.imshow(canvas, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        for j, title in enumerate(self.titles):
            x = j * (width + right) + width / 2
            ax.text(x, -right, title, ha="center", va="bottom", fontsize=8)


class FeatureMapDisplay(Display):
    """Images on a two-dimensional map of their features, framed in the colors of their labels.

    Parameters
    ----------
    places : ndarray of shape (n, 2)
        Positions on the map.
    images : ndarray of shape (n, height, width, channels), optional
        Images in [0, 1]; without them, points are drawn.
    labels : ndarray of shape (n,), optional
        Names or integers, with a legend, or floats, with a color bar. Images with None or NaN are
        gray.
    rows : ndarray of shape (n,), optional
        Rows of the images in ``X``.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import FeatureMapDisplay
    >>> X, y = load_digits().images[:100], load_digits().target[:100]
    >>> features = SimCLR(max_epochs=1, random_state=0).fit_transform(X)
    >>> FeatureMapDisplay.from_features(features, X, y).places.shape
    (100, 2)
    """

    def __init__(
        self, places: np.ndarray, images: Any = None, labels: Any = None, rows: Any = None
    ):
        self.places = places
        self.images = images
        self.labels = labels
        self.rows = rows

    @classmethod
    @validate_params({"reducer": [HasMethods(["fit_transform"]), None]})
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, reducer: Any = None, ax: Any = None
    ) -> Self:
        """Map the features of images, computed by a fitted learner.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        X : array-like
            Images; a few hundred can be told apart. Skipped files are left out.
        y : array-like of shape (n,), optional
            Labels, which determine the colors of the frames: names, such as ``target_names[y]``,
            integers, or floats. Images without a label (None, NaN or -1) are gray.
        reducer : transformer or None, default=None
            Reduces features to two dimensions; a clone is fitted. ``None`` means t-SNE of 50
            principal components.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        FeatureMapDisplay
        """
        check_learner(estimator)
        features, rows = _of(estimator.transform(X), "the features of X")
        labels = _labels(y, len(features), rows)
        images = _seen_by(estimator, X, rows)
        return cls(_places(features[rows], reducer), images, labels, rows).plot(ax)

    @classmethod
    @validate_params({"reducer": [HasMethods(["fit_transform"]), None]})
    def from_features(
        cls, features: Any, X: Any = None, y: Any = None, *, reducer: Any = None, ax: Any = None
    ) -> Self:
        """Map given features, from a learner or any other source.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Features. Rows with NaN, such as those of skipped files, are left out.
        X : array-like, optional
            Their images, in any form that learners accept; without them, points are drawn.
        y : array-like of shape (n,), optional
            Labels, as for :meth:`from_estimator`.
        reducer : transformer or None, default=None
            Reduces features to two dimensions, as for :meth:`from_estimator`.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        FeatureMapDisplay
        """
        source = None if X is None else _read(X)
        features, rows = _of(features, "features", None if source is None else len(source))
        labels = _labels(y, len(features), rows)
        images = None if source is None else _scaled(source, rows)
        return cls(_places(features[rows], reducer), images, labels, rows).plot(ax)

    def _check(self) -> None:
        with naming("places"):
            shape = np.shape(self.places)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != 2:
            raise ValueError(f"places has shape {shape}; give positions of shape (n, 2)")
        if self.images is not None:
            check_pictures(self.images, 4)
            if len(self.images) != shape[0]:
                raise ValueError(
                    f"images has {len(self.images)} images; give one for each of {shape[0]} places"
                )
        if self.labels is not None:
            with naming("labels"):
                column_or_1d(self.labels)
                check_consistent_length(self.places, self.labels)

    def _size(self) -> tuple[float, float]:
        return (7, 7) if self.labels is None else (8.5, 7)

    def _draw(self, ax: Any) -> None:
        low, high = self.places.min(0), self.places.max(0)
        places = (self.places - low) / np.maximum(high - low, 1e-12)
        side = 0.5 / len(places) ** 0.5  # of an image, in a square of side 1
        colors = None if self.labels is None else _explained_colors(self.labels, ax)
        if self.images is None:
            ax.scatter(*(places + side / 2).T, c=colors, s=16)
        else:
            for row, ((x, y), image) in enumerate(zip(places, self.images, strict=True)):
                extent = (x, x + side, y, y + side)
                ax.imshow(_shown(image), extent=extent, interpolation="nearest", zorder=row)
                if colors is not None:
                    frame = {"fill": False, "edgecolor": colors[row], "linewidth": 1.5}
                    ax.add_patch(pyplot().Rectangle((x, y), side, side, zorder=row, **frame))
        ax.set(xlim=(-side, 1 + 2 * side), ylim=(-side, 1 + 2 * side), xticks=[], yticks=[])
        ax.set_aspect("equal")
        ax.spines[:].set_visible(False)


def _places(features: np.ndarray, reducer: Any) -> np.ndarray:
    """Compute positions (n, 2) of features."""
    if reducer is not None:
        with naming("reducer"):
            places = np.asarray(clone(reducer).fit_transform(features))
        if places.shape != (len(features), 2):
            raise ValueError(
                f"reducer={reducer!r} returns an array of shape {places.shape} for "
                f"{len(features)} images; give one with two dimensions, such as PCA(2)"
            )
        return places
    if len(features) < 3 or features.shape[1] < 3:  # too few for t-SNE
        return np.pad(features, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    components = PCA(min(50, *features.shape), random_state=0).fit_transform(features)
    tsne = TSNE(perplexity=min(30, len(features) / 4), random_state=0)
    return tsne.fit_transform(components)


def _labels(y: Any, n_images: int, rows: np.ndarray) -> np.ndarray | None:
    """Return the labels of some rows: floats or NaN, or else names, integers or None."""
    if y is None:
        return None
    if np.prod(np.shape(y)[1:]) > 1:
        raise ValueError(f"y has shape {np.shape(y)}; give one label for each image")
    try:
        values = np.asarray(y, dtype=float)
        is_measured = bool((values[np.isfinite(values)] % 1).any())
    except (TypeError, ValueError, OverflowError):  # names, or no valid labels
        is_measured = False
    known, is_known = (read_targets if is_measured else read_labels)(y, n_images)
    labels = np.full(n_images, np.nan if is_measured else None)
    labels[is_known] = known
    return labels[rows]


def _explained_colors(labels: np.ndarray, ax: Any) -> list[Any]:
    """Return the color of each label, and add a legend or a color bar."""
    labels = np.asarray(labels)
    known = np.array([label is not None and label == label for label in labels.tolist()])
    if labels.dtype.kind == "f":
        shades = pyplot().cm.ScalarMappable(cmap="viridis")
        shades.set_array(labels[known])
        shades.autoscale()
        ax.figure.colorbar(shades, ax=ax, shrink=0.6)
        colors = {value: shades.to_rgba(value) for value in labels[known].tolist()}
    else:
        classes = sorted(set(labels[known].tolist()))
        n, every = len(classes), pyplot().get_cmap
        few = "tab10" if n <= 10 else "tab20"
        shades = every(few).colors if n <= 20 else every("turbo")(np.linspace(0, 1, n))
        colors = dict(zip(classes, shades, strict=False))
        for name in classes:
            ax.plot([], [], "s", color=colors[name], label=str(name))
        if not known.all():
            ax.plot([], [], "s", color=_UNLABELED, label="no label")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-n // 25))
    return [
        colors[label] if there else _UNLABELED
        for label, there in zip(labels.tolist(), known, strict=True)
    ]


class NeighborsDisplay(_Grid):
    """Images and their nearest neighbors by the cosine distance of features.

    Below each neighbor are its row in ``X`` and its distance.

    Parameters
    ----------
    images : ndarray of shape (n_queries, 1 + n_neighbors, height, width, channels)
        Images in [0, 1]; queries come first.
    indices : ndarray of shape (n_queries, n_neighbors), optional
        Rows of the neighbors in ``X``.
    distances : ndarray of shape (n_queries, n_neighbors), optional
        Cosine distances of the neighbors from the query, between 0 and 2.
    rows : ndarray of shape (n_queries,), optional
        Rows of the queries that are shown.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import NeighborsDisplay
    >>> X = load_digits().images[:100]
    >>> features = SimCLR(max_epochs=1, random_state=0).fit_transform(X)
    >>> display = NeighborsDisplay.from_features(features, X, queries=[0, 1, 2], n_neighbors=5)
    >>> display.indices.shape, display.distances.shape
    ((3, 5), (3, 5))
    """

    def __init__(
        self, images: np.ndarray, indices: Any = None, distances: Any = None, rows: Any = None
    ):
        self.images = images
        self.indices = indices
        self.distances = distances
        self.rows = rows
        self.titles = ("query",)

    def _check(self) -> None:
        super()._check()
        shape = self.images.shape[0], self.images.shape[1] - 1
        for name in ("indices", "distances"):
            if getattr(self, name) is not None:
                with naming(name):
                    found = np.asarray(getattr(self, name), dtype=float)
                if found.shape != shape:
                    raise ValueError(
                        f"{name} has shape {found.shape}, but images has {shape} neighbors; give "
                        "one value for each"
                    )
        if self.indices is not None and self.distances is not None:
            self.captions = [
                ["", *(f"{i}: {d:.2f}" for i, d in zip(*found, strict=True))]
                for found in zip(self.indices, self.distances, strict=True)
            ]

    @classmethod
    @validate_params({"n_neighbors": [COUNT]})
    def from_estimator(
        cls, estimator: Any, X: Any, queries: Any, *, n_neighbors: int = 8, ax: Any = None
    ) -> Self:
        """Find neighbors by the features of a fitted learner.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        X : array-like
            Images to search. Skipped files are left out.
        queries : array-like
            Images whose neighbors are shown. A query that is in ``X`` is not its own neighbor.
        n_neighbors : int, default=8
            Number of neighbors of each query.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        NeighborsDisplay
        """
        check_learner(estimator)
        features, rows = _of(estimator.transform(X), "the features of X")
        with naming("queries"):
            asked, asked_rows = _of(estimator.transform(queries), "the features of queries")
        indices, distances = _nearest(features, rows, asked[asked_rows], n_neighbors)
        of_queries = _seen_by(estimator, queries, asked_rows)
        found = _seen_by(estimator, X, indices.ravel()).reshape(
            *indices.shape, *of_queries[0].shape
        )
        images = np.concatenate([of_queries[:, None], found], axis=1)
        return cls(images, indices, distances, asked_rows).plot(ax)

    @classmethod
    @validate_params({"n_neighbors": [COUNT]})
    def from_features(
        cls, features: Any, X: Any, queries: Any, *, n_neighbors: int = 8, ax: Any = None
    ) -> Self:
        """Find neighbors by given features, from a learner or any other source.

        Parameters
        ----------
        features : array-like of shape (n, n_features)
            Features. Rows with NaN, such as those of skipped files, are left out.
        X : array-like
            Their images, in any form that learners accept.
        queries : array-like of int
            Rows of ``X`` whose neighbors among the other rows are shown.
        n_neighbors : int, default=8
            Number of neighbors of each query.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        NeighborsDisplay
        """
        source = _read(X)
        features, rows = _of(features, "features", len(source))
        with naming("queries"):
            asked_rows = column_or_1d(queries)
        if (
            asked_rows.dtype.kind not in "iu"
            or not np.isin(asked_rows, np.arange(len(source))).all()
        ):
            raise ValueError(
                f"queries={queries!r} must be row numbers of X, from 0 to {len(source) - 1}"
            )
        asked_rows = asked_rows[np.isin(asked_rows, rows)]
        indices, distances = _nearest(features, rows, features[asked_rows], n_neighbors, asked_rows)
        images = np.concatenate([asked_rows[:, None], indices], axis=1)
        pictures = _scaled(source, images.ravel())
        pictures = pictures.reshape(*images.shape, *pictures.shape[1:])
        return cls(pictures, indices, distances, asked_rows).plot(ax)


def _nearest(
    features: np.ndarray,
    rows: np.ndarray,
    asked: np.ndarray,
    n: int,
    asked_rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find rows and cosine distances of the nearest features, except a query itself."""
    if n >= len(rows):
        raise ValueError(
            f"n_neighbors={n} must be smaller than the number of readable images in X, {len(rows)}"
        )
    search = NearestNeighbors(n_neighbors=n + 1, metric="cosine").fit(features[rows])
    distances, found = search.kneighbors(asked)
    found = rows[found]
    itself = (
        (features[found] == asked[:, None]).all(2)  # features of an image are the same every time
        if asked_rows is None
        else found == asked_rows[:, None]
    )
    itself = np.where(itself.any(1), itself.argmax(1), n)[:, None]  # else drop the last neighbor
    others = np.arange(n) + (np.arange(n) >= itself)
    return np.take_along_axis(found, others, 1), np.take_along_axis(distances, others, 1)


class ViewsDisplay(_Grid):
    """Images, and their views as the pretext task sees them.

    Parameters
    ----------
    images : ndarray of shape (n, 1 + n_views, height, width, channels)
        Images in [0, 1]; in each row, the image comes before its views.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self.titles = ("image", "views")

    @classmethod
    @validate_params({"n_views": [COUNT], "random_state": ["random_state"]})
    def from_estimator(
        cls, estimator: Any, X: Any, *, n_views: int = 6, random_state: Any = 0, ax: Any = None
    ) -> Self:
        """Draw views as a fitted learner does, enlarged to the size of the images.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        X : array-like
            Some images. Skipped files are left out.
        n_views : int, default=6
            Number of views of each image.
        random_state : int, RandomState instance or None, default=0
            Determines the views.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        ViewsDisplay
        """
        check_learner(estimator)
        if not hasattr(estimator, "draw_views"):
            raise TypeError(
                f"estimator: {type(estimator).__name__} draws no views; give a pretext learner"
            )
        views = estimator.draw_views(X, n_views, random_state=random_state)
        pixels = _seen_by(estimator, X)
        height, width = pixels.shape[1:3]
        rows = np.arange(height) * views.shape[2] // height
        columns = np.arange(width) * views.shape[3] // width
        enlarged = views[:, :, rows][:, :, :, columns]
        images = np.concatenate([pixels[:, None], enlarged], axis=1)
        return cls(images[_are_read(pixels)]).plot(ax)


class ReconstructionDisplay(_Grid):
    """Images, and their reconstructions by a generative learner.

    Parameters
    ----------
    images : ndarray of shape (2, n, height, width, channels)
        Images in [0, 1], and below them their reconstructions.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(self, images: np.ndarray):
        self.images = images

    @classmethod
    @validate_params({"method": [str, None]})
    def from_estimator(
        cls, estimator: Any, X: Any, *, method: str | None = None, mask: Any = None, ax: Any = None
    ) -> Self:
        """Draw images and their reconstructions by a fitted generative learner.

        Parameters
        ----------
        estimator : PretextLearner
            Fitted learner.
        X : array-like
            Some images. Skipped files are left out.
        method : {"reconstruct", "inpaint", "colorize"} or None, default=None
            Method of the learner to call. ``None`` means the first of these that it has.
        mask : bool array-like of shape (height, width) or (n, height, width), optional
            Pixels that are hidden, for ``"inpaint"``; by default those in the middle.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        ReconstructionDisplay
        """
        check_learner(estimator)
        method, pixels = _redrawing(estimator, method), _seen_by(estimator, X)
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
        images = np.stack([pixels, _seen_by(estimator, made)])
        return cls(images[:, _are_read(pixels)]).plot(ax)


def _redrawing(learner: Any, method: str | None) -> str:
    """Return the name of the method that redraws images; no other method is ever called."""
    known = [name for name in _REDRAWING if hasattr(learner, name)]
    if not known:
        raise ValueError(
            f"estimator: {type(learner).__name__} cannot reconstruct images; give a generative "
            "learner, such as MaskedAutoencoder"
        )
    if method is None:
        return known[0]
    if method not in known:
        raise ValueError(
            f"method={method!r} must be None or one that {type(learner).__name__} has: "
            f"{', '.join(map(repr, known))}"
        )
    return method
