"""Classifier of pixels from few labeled ones, such as scribbles."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._utils._estimators import COUNT, DeclaredArguments, all_or_nothing, argument
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl.dense._maps import at_pixels, enlarged, fitted_learner, maps_of
from sklearn_ssl.images import count_images, opened, pick
from sklearn_ssl.probes import LinearProbe

_UNLABELED = -1
_ROUNDING = 0.02  # of the ratio of two sides


class DenseClassifier(
    ClassifierMixin, MetaEstimatorMixin, SavedMixin, DeclaredArguments, BaseEstimator
):
    """Classifier of pixels (semantic segmentation) from few labeled pixels.

    The learner is pretrained on all images. Features at the labeled pixels, which may be scribbles
    in few images, train an ordinary classifier; it predicts the classes of all pixels.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Learner, or another transformer with ``feature_maps``; in
        :class:`~sklearn.frozen.FrozenEstimator` if it is fitted. ``None`` means :class:`SimCLR`
        with its three finest layers. Several layers give both detail and context.
    head : classifier or None, default=None
        Classifier of features (n, d) with ``predict_proba``. ``None`` means :class:`LinearProbe`.
    max_pixels : int, default=20000
        Largest number of labeled pixels to fit the classifier to; of more, as many of each class as
        possible are drawn.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing pixels, and for ``learner=None``.

    Attributes
    ----------
    learner_, head_ : estimators
        Fitted learner and classifier.
    classes_ : ndarray of shape (n_classes,)
        Classes of pixels.
    n_labeled_ : int
        Number of pixels that the classifier was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import DenseClassifier, SimCLR
    >>> X = load_digits().images[:64]
    >>> y = np.full(X.shape, -1)
    >>> y[:8][X[:8] > 12], y[:8][X[:8] == 0] = 1, 0  # ink and paper in eight images
    >>> classifier = DenseClassifier(SimCLR(max_epochs=1, layer="layer1", random_state=0))
    >>> classifier.fit(X, y).predict(X[:2]).shape
    (2, 8, 8)
    """

    learner: Any = argument(default=None, kw_only=False)
    head: Any = argument(default=None, kw_only=False)
    max_pixels: int = argument(COUNT, default=20_000)
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Pretrain on all images, and fit the classifier to the features of labeled pixels.

        Parameters
        ----------
        X : array-like
            Images, as for the learner.
        y : array-like of int, of shape (n, height, width)
            Class of each pixel; -1 marks pixels without one. Height and width may be those of
            another resolution. Labels of files are for the whole image with ``resize="squash"``,
            and otherwise for what is left of it, or what it is filled up to.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the images or the labels are not usable.
        """
        self._validate_params()
        X = opened(X)
        labels = _labels(y, count_images(X))
        head = self._make_head()
        random_state = check_random_state(self.random_state)
        images, rows, columns = np.nonzero(labels != _UNLABELED)
        codes = labels[images, rows, columns]
        _check_classes(codes)
        learner = fitted_learner(self, X)
        _check_proportions(labels, learner)
        some = _drawn(codes, int(self.max_pixels), random_state)
        features, labeled = [], np.unique(images[some])
        of_each = (one for maps in maps_of(learner, pick(X, labeled)) for one in maps)
        for image, one in zip(labeled, of_each, strict=True):
            here = some[images[some] == image]
            features.append(at_pixels(one, rows[here], columns[here], labels.shape[1:]))
        read = ~np.isnan(found := np.concatenate(features)).any(1)
        codes = codes[some][read]
        _check_classes(codes, " that can be read and are drawn")
        head.fit(found[read], codes)
        self.learner_, self.head_, self.n_labeled_ = learner, head, len(codes)
        self.classes_ = np.unique(codes)
        return self

    def _make_head(self) -> Any:
        if self.head is None:
            return LinearProbe()
        if not hasattr(self.head, "predict_proba"):
            raise TypeError(f"head={self.head!r} must be a classifier with predict_proba")
        return clone(self.head)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of classes for each pixel.

        Probabilities at the positions of the feature maps are enlarged bilinearly.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, height, width, n_classes), float32
            With ``on_error="skip"`` of the learner, NaN for images that cannot be read.
        """
        check_is_fitted(self)
        size, found = self.learner_.image_shape_[:2], []
        for maps in maps_of(self.learner_, opened(X)):
            flat = maps.reshape(-1, maps.shape[3])
            read = ~np.isnan(flat).any(1)
            shares = np.full((len(flat), len(self.classes_)), np.nan, np.float32)
            if read.any():
                shares[read] = self.head_.predict_proba(flat[read])
            found.append(enlarged(shares.reshape(*maps.shape[:3], -1), size))
        return np.concatenate(found)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each pixel.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, height, width), of the type of ``classes_``
            -1 for images that cannot be read, with ``on_error="skip"`` of the learner.
        """
        shares = self.predict_proba(X)
        best = self.classes_[np.nan_to_num(shares).argmax(3)]
        return np.where(np.isnan(shares).any(3), self.classes_.dtype.type(_UNLABELED), best)

    def score(self, X: Any, y: Any) -> float:
        """Compute the mean intersection over union of the classes, on labeled pixels.

        Parameters
        ----------
        X : array-like
            Images.
        y : array-like of int, of shape (n, height, width)
            Class of each pixel, at the size of the images of the fit; -1 for none.

        Returns
        -------
        float
            Mean over the classes that are in ``y`` or predicted for labeled pixels. Images that
            cannot be read are left out.
        """
        check_is_fitted(self)
        predicted = self.predict(X)
        labels = _labels(y, len(predicted))
        if labels.shape != predicted.shape:
            raise ValueError(f"y has shape {labels.shape}, but predictions have {predicted.shape}")
        known = (labels != _UNLABELED) & (predicted != _UNLABELED)
        if not known.any():
            raise ValueError("y has no labeled pixel in images that can be read")
        labels, predicted = labels[known], predicted[known]
        shares = []
        for one in np.union1d(labels, predicted):
            both = ((labels == one) & (predicted == one)).sum()
            shares.append(both / ((labels == one) | (predicted == one)).sum())
        return float(np.mean(shares))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "learner_")


def _labels(y: Any, n: int) -> np.ndarray:
    """Check the labels of pixels, and return them as integers (n, height, width)."""
    labels = np.asarray(y)
    if labels.ndim != 3 or len(labels) != n:
        raise ValueError(
            f"y has shape {labels.shape}; labels of pixels must be (n, height, width) for "
            f"{n} images, with -1 for pixels without a label"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"y has dtype {labels.dtype}; classes of pixels must be integers, -1 for none"
        )
    return labels.astype(np.int64)


def _check_classes(codes: np.ndarray, which: str = "") -> None:
    """Raise ValueError if labels are of fewer than two classes."""
    if (n := len(np.unique(codes))) < 2:
        raise ValueError(f"y has pixels{which} of {n} classes; label pixels of at least two")


def _check_proportions(labels: np.ndarray, learner: Any) -> None:
    """Raise ValueError if labels have other proportions than images, which are not stretched."""
    (height, width), (rows, columns) = learner.image_shape_[:2], labels.shape[1:]
    if learner.resize != "squash" and abs(rows * width / (columns * height) - 1) > _ROUNDING:
        raise ValueError(
            f"y has {rows} x {columns} pixels, but the learner sees images of {height} x {width}; "
            f"with resize={learner.resize!r}, these are not the whole files. Give the learner "
            "resize='squash', or labels of the same proportions"
        )


def _drawn(codes: np.ndarray, most: int, random_state: np.random.RandomState) -> np.ndarray:
    """Return sorted rows of at most so many pixels, as many of each class as possible."""
    if len(codes) <= most:
        return np.arange(len(codes))
    order = random_state.permutation(len(codes))
    _, places, counts = np.unique(codes[order], return_inverse=True, return_counts=True)
    rank = np.empty(len(codes), int)  # of a pixel among those of its class
    by_class = np.argsort(places, kind="stable")
    rank[by_class] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[np.argsort(rank, kind="stable")[:most]])
