"""Maps of what is unusual in images, by distances to known patches."""

from collections.abc import Iterator
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_ssl._utils._estimators import (
    COUNT,
    DeclaredArguments,
    Interval,
    all_or_nothing,
    argument,
)
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import own_settings
from sklearn_ssl.dense._maps import enlarged, fitted_learner, maps_of
from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images import count_images, opened

_MOST_PATCHES = 100_000  # from which the bank is chosen
_PROJECTED = 128  # dimensions in which it is chosen


class PatchCore(OutlierMixin, MetaEstimatorMixin, SavedMixin, DeclaredArguments, BaseEstimator):
    """Detector of unusual images, with a map of where they are unusual [1]_.

    Features of patches of normal images form a memory bank. Each patch of a new image is as unusual
    as its distance to the nearest patch in the bank, and an image as unusual as its most unusual
    patch. The bank is a core set: patches chosen greedily so that every patch is near one of them.

    Features are averaged over 3 x 3 positions, as in the paper, and, unlike there, divided by their
    standard deviations, and come from a learner that is pretrained on the same images.

    Parameters
    ----------
    learner : PretextLearner or None, default=None
        Learner, or another transformer with ``feature_maps``, such as :class:`PretrainedEncoder`,
        which the paper uses; in :class:`~sklearn.frozen.FrozenEstimator` if it is fitted. ``None``
        means :class:`SimCLR` with its three finest layers.
    n_patches : int, default=2000
        Size of the memory bank.
    n_neighbors : int, default=9
        Number of patches around the nearest one that an image's score is weighted by: the score
        counts less where the bank is sparse. 1 leaves scores unweighted.
    contamination : float, default=0.05
        Share of the training images that :meth:`predict` would call outliers, if their own patches
        were not in the bank.
    random_state : int, RandomState instance or None, default=None
        Seed for the core set, and for ``learner=None``.

    Attributes
    ----------
    learner_ : estimator
        Fitted learner.
    bank_ : ndarray of shape (n_patches, d), float32
        Patches of the memory bank.
    bank_images_ : ndarray of shape (n_patches,)
        The training image that each of them is from.
    scale_ : ndarray of shape (d,), float32
        Standard deviations by which features are divided.
    offset_ : float
        Score below which images are outliers.

    References
    ----------
    .. [1] Roth et al. (2022), Towards Total Recall in Industrial Anomaly Detection,
       https://arxiv.org/abs/2106.08265

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import PatchCore, SimCLR
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = PatchCore(SimCLR(max_epochs=1, random_state=0), n_patches=200, random_state=0)
    >>> detector.fit(X[y == 1]).anomaly_maps(X[:3]).shape
    (3, 8, 8)
    """

    learner: Any = argument(default=None, kw_only=False)
    n_patches: int = argument(COUNT, default=2000)
    n_neighbors: int = argument(COUNT, default=9)
    contamination: float = argument(Interval(Real, 0, 0.5, closed="right"), default=0.05)
    random_state: int | np.random.RandomState | None = argument("random_state", default=None)

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Pretrain on normal images, and choose the patches of the memory bank.

        Parameters
        ----------
        X : array-like
            Images without what is to be found, as for the learner.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the images are not usable, or fewer than two.
        """
        self._validate_params()
        X, random_state = opened(X), check_random_state(self.random_state)
        learner = fitted_learner(self, X)
        patches, images = _some_patches(learner, X, random_state)
        scale = patches.std(0)
        scale[scale == 0] = 1
        with own_settings(learner.device_):
            scaled = torch.from_numpy(patches / scale)
            projected = scaled
            if (d := scaled.shape[1]) > _PROJECTED:
                projection = random_state.normal(size=(d, _PROJECTED)) / _PROJECTED**0.5
                projected = scaled @ torch.from_numpy(projection.astype(np.float32))
            first = int(random_state.randint(len(scaled)))
            chosen = core_set(projected.to(learner.device_), int(self.n_patches), first)
        self.learner_, self.scale_ = learner, scale
        self.bank_, self.bank_images_ = scaled[chosen].numpy(), images[chosen]
        if len(np.unique(self.bank_images_)) < 2:
            raise ValueError("X has to have at least two images with different patches")
        self._own_scores = np.concatenate([s for s, _ in self._judged(X, in_bank=True)])
        self.offset_ = float(np.nanquantile(self._own_scores, self.contamination))
        return self

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and predict which of the same images are outliers among the others.

        Patches of an image in the memory bank do not count for its own score.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.
        y : ignored

        Returns
        -------
        ndarray of shape (n,), int
            1 for normal images, and -1 for outliers.
        """
        return np.where(self.fit(X)._own_scores >= self.offset_, 1, -1)

    def anomaly_maps(self, X: Any) -> np.ndarray:
        """Compute how unusual each pixel is: the distance of its patch to the nearest known one.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n, height, width), float32
            Distances, enlarged bilinearly. With ``on_error="skip"`` of the learner, NaN for images
            that cannot be read.
        """
        check_is_fitted(self)
        size = self.learner_.image_shape_[:2]
        return np.concatenate([enlarged(d[..., None], size)[..., 0] for _, d in self._judged(X)])

    def score_samples(self, X: Any) -> np.ndarray:
        """Compute how normal images are: minus the weighted distance of their oddest patch.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        check_is_fitted(self)
        return np.concatenate([scores for scores, _ in self._judged(X)])

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute ``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Predict 1 for normal images, and -1 for outliers and images that cannot be read.

        Parameters
        ----------
        X : array-like
            Images.

        Returns
        -------
        ndarray of shape (n,), int
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _judged(self, X: Any, in_bank: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield scores and distances of patches, some images at a time; they may be in the bank."""
        start = 0
        for maps in maps_of(self.learner_, opened(X)):
            of = np.arange(start, start + len(maps)) if in_bank else None
            yield self._scores(_averaged(maps), of)
            start += len(maps)

    def _scores(self, maps: np.ndarray, of: np.ndarray | None = None) -> tuple:
        """Return the scores of images (n,), and the distances of patches (n, rows, columns).

        ``of`` is the training image that each map is of, whose patches in the bank do not count.
        """
        n = len(maps)
        device = self.learner_.device_
        with own_settings(device), torch.no_grad():
            bank = torch.from_numpy(self.bank_).to(device)
            of_bank = torch.from_numpy(self.bank_images_).to(device)
            scale = torch.from_numpy(self.scale_).to(device)
            distances, scores = [], []
            for i, one in enumerate(maps):
                patches = torch.from_numpy(one).to(device).flatten(0, 1) / scale
                apart = _distances(patches, bank)
                if of is not None:
                    apart = apart.masked_fill(of_bank == int(of[i]), torch.inf)
                nearest, which = apart.min(1)
                distances.append(nearest)
                scores.append(self._weighted(bank, apart, nearest, which))
        found = torch.stack(distances).reshape(n, *maps.shape[1:3]).float().cpu().numpy()
        return -torch.stack(scores).double().cpu().numpy(), found

    def _weighted(self, bank: Tensor, apart: Tensor, nearest: Tensor, which: Tensor) -> Tensor:
        """Return the distance of the oddest patch, weighted as in the paper's equation 7."""
        oddest = nearest.argmax()
        counts = apart[oddest].isfinite()  # not those of the image itself
        k = min(int(self.n_neighbors), int(counts.sum()))
        if k <= 1:
            return nearest[oddest]
        around = _distances(bank[which[oddest]][None], bank)[0].masked_fill(~counts, torch.inf)
        around = around.topk(k, largest=False).indices
        # 1 - softmax of the nearest one, without overflow
        shares = torch.cat([nearest[oddest][None], apart[oddest, around]])
        return (1 - (shares[0] - shares[1:].logsumexp(0)).exp()) * shares[0]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")


def _some_patches(
    learner: Any, X: Any, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return patches (m, d) of images, about equally many of each, and the image of each patch."""
    n = count_images(X)
    each = -(-_MOST_PATCHES // n)
    patches, images, start = [], [], 0
    for maps in maps_of(learner, X):
        for image, one in enumerate(_averaged(maps), start):
            rows = one.reshape(-1, one.shape[2])
            if np.isfinite(rows).all():
                some = np.sort(random_state.permutation(len(rows))[:each])
                patches.append(rows[some])
                images.append(np.full(len(some), image))
        start += len(maps)
    if not patches:
        raise ImageReadError(f"none of the {n} images in X can be read")
    return np.concatenate(patches), np.concatenate(images)


def core_set(points: Tensor, n: int, first: int) -> Tensor:
    """Choose n rows greedily, each the farthest from those chosen before (k-center).

    Parameters
    ----------
    points : Tensor of shape (m, d)
    n : int
        At most m rows are chosen.
    first : int
        Row to start with.

    References
    ----------
    Sener and Savarese (2018), Active Learning for Convolutional Neural Networks: A Core-Set
    Approach, algorithm 1.
    """
    chosen = torch.empty(min(n, len(points)), dtype=torch.long, device=points.device)
    chosen[0] = first
    distances = torch.full_like(points[:, 0], torch.inf)
    for i in range(1, len(chosen)):
        new = (points - points[chosen[i - 1]]).square().sum(1)
        distances = torch.minimum(distances, new)
        chosen[i] = distances.argmax()
    return chosen.cpu()


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Compute distances exactly, so that those of equal rows are 0."""
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")


def _averaged(maps: np.ndarray) -> np.ndarray:
    """Average maps (n, rows, columns, d) over the 3 x 3 positions around each one."""
    planes = torch.from_numpy(maps).permute(0, 3, 1, 2)
    found = F.avg_pool2d(planes, 3, 1, 1, count_include_pad=False)
    return found.permute(0, 2, 3, 1).contiguous().numpy()
