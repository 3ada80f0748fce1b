"""Choice of the weights of parts, by leave-one-out kernel ridge regression on labeled images."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.metrics import r2_score

from sklearn_ssl._labeled._leave_one_out import (
    leave_one_out,
    mass_of_classes,
    of_all_kinds,
    smoothed_error,
)
from sklearn_ssl._utils._labels import read_labels, read_targets

_GAMMAS = (0.25, 0.5, 1.0, 2.0)
_ALPHAS = [10.0 ** (k / 2) for k in range(-6, 2)]  # 1e-3 to 3
_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the first of two parts
_CLEARLY = 0.5  # standard errors by which other weights must be better than the usual ones

_LITTLE_TRAINING = 20_000  # images seen, after which a learner's usual share is small
_SMALL_SHARE, _LARGE_SHARE = 0.2, 0.6
_SHARE_OF_THREEFOLD = 0.15  # by which it grows when a learner sees three times as many images

Weights = dict[str, float]


def usual_weights(fitted: dict[str, Any]) -> Weights:
    """Return the weights of parts without labels: a learner's grows with the images it has seen.

    The numbers are from CIFAR-10, digits and photographs of hands, with learners trained for 20 and
    200 seconds (examples/benchmarks/auto_weights.py).
    """
    share = 0.0
    if "learner" in fitted:
        threefolds = np.log(max(fitted["learner"].n_images_seen_, 1) / _LITTLE_TRAINING) / np.log(3)
        share = float(np.clip(_SMALL_SHARE + _SHARE_OF_THREEFOLD * threefolds, 0.1, _LARGE_SHARE))
    others = fitted.keys() - {"learner"}
    if not others:
        return {"learner": 1.0}
    first = next(name for name in ("dictionary", "pixels") if name in others)
    return {first: 1 - share, **({"learner": share} if share else {})}


class Labels:
    """Labels or numeric targets of some of the images, as targets of a regression.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, k), or None
        Classes, indicators of several labels, or numbers; missing where an image has none.
    n : int
        Number of images.
    are_numbers : bool, optional
        Whether ``y`` has numeric targets. By default it has if some are not whole.

    Attributes
    ----------
    is_labeled : ndarray of shape (n,), bool
    rows : ndarray of int
        Rows of X with a label.
    targets : ndarray of shape (n_labeled, k)
        1 for the class or label of an image and -1 for others, or numbers with variance 1.
    """

    def __init__(self, y: Any, n: int, are_numbers: bool | None = None):
        self.kind = "none"
        self.is_labeled, self.targets = np.zeros(n, bool), np.zeros((0, 1))
        if are_numbers is None:
            are_numbers = y is not None and _has_fractions(y)
        if are_numbers:
            values, self.is_labeled = read_targets(y, n)
            values = values.reshape(len(values), -1)
            self.kind = "numbers"
            self.targets = (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
        elif y is not None:
            labels, self.is_labeled = read_labels(y, n, multilabel=True)
            self.kind = "classes" if labels.ndim == 1 else "several"
            if labels.ndim == 1:
                labels = labels[:, None] == np.unique(labels)
            self.targets = np.where(labels, 1.0, -1.0)
        self.rows = np.flatnonzero(self.is_labeled)

    def some(self, n: int) -> np.ndarray:
        """Return the places of at most ``n`` labels, of all kinds."""
        return of_all_kinds(self.targets, n)

    def loss(self, targets: np.ndarray, predicted: np.ndarray) -> float:
        """Return the loss of predictions: a smoothed error rate, or the mean squared error."""
        if self.kind == "numbers":
            return float(np.mean((predicted - targets) ** 2))
        several = self.kind == "several"
        return smoothed_error(
            predicted, mass_of_classes(targets, np.ones(len(targets)), several), several
        )

    def score(self, targets: np.ndarray, predicted: np.ndarray) -> float:
        """Return the accuracy of predictions, or their coefficient of determination."""
        if self.kind == "numbers":
            return float(r2_score(targets, predicted))
        if self.kind == "several":
            return float(np.mean((predicted > 0) == (targets > 0)))
        return float(np.mean(predicted.argmax(1) == targets.argmax(1)))


def _has_fractions(y: Any) -> bool:
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    values = values[np.isfinite(values)]
    return bool((values != np.round(values)).any())


class LeaveOneOut:
    """Leave-one-out predictions by kernel ridge regression on weighted parts.

    The squared distances in its Gaussian kernel are the weighted sum of those in each part, in
    units of their mean.

    Parameters
    ----------
    parts : dict of str to ndarray of shape (n, d)
        Features of some labeled images.
    labels : Labels
        All labels; they say how predictions are judged.
    targets : ndarray of shape (n, k)
        Targets of the images.
    """

    def __init__(self, parts: dict[str, np.ndarray], labels: Labels, targets: np.ndarray):
        self.labels, self.targets = labels, targets
        self.distances = {}
        if len(targets) < 2 or not np.isfinite(labels.loss(targets, targets)):
            return  # nothing can be left out
        for name, features in parts.items():
            rows = torch.from_numpy(features).double()
            squares = torch.cdist(rows, rows).square()
            mean = squares.sum() / (len(rows) * (len(rows) - 1))
            self.distances[name] = squares / mean.clamp(min=1e-300)

    def score(self, part: str) -> float:
        """Return the accuracy, or the coefficient of determination, of a part alone."""
        if part not in self.distances:
            return float("nan")
        return self.labels.score(self.targets, self._judged({part: 1.0})[2])

    def choose(self, usual: Weights) -> Weights:
        """Return the weights with the smallest loss, or the usual ones if none is clearly better.

        Parameters
        ----------
        usual : dict of str to float
            Usual weights, which sum to 1.
        """
        if not self.distances:
            return usual
        least, gamma, _ = self._judged(usual)
        error = np.sqrt(max(least * (1 - least), 0.0) / len(self.targets))
        limit, best = least - _CLEARLY * error, usual
        for weights in self._candidates(usual):
            near = tuple(g for g in _GAMMAS if 0.5 <= g / gamma <= 2)
            if (loss := self._judged(weights, near)[0]) < limit:
                limit, best = loss, weights
        return best

    def _candidates(self, usual: Weights) -> Iterator[Weights]:
        for name in self.distances:
            yield {name: 1.0}
        for first, second in combinations(usual, 2):
            for share in _SHARES:
                yield {first: share, second: 1 - share}

    def _judged(
        self, weights: Weights, gammas: tuple[float, ...] = _GAMMAS
    ) -> tuple[float, float, np.ndarray]:
        """Return the smallest loss over kernel widths and penalties, the width, and predictions."""
        weighted = [weight * self.distances[name] for name, weight in weights.items()]
        distances = torch.stack(weighted).sum(0)
        targets = torch.from_numpy(self.targets).double()
        best = np.inf, gammas[0], self.targets
        for gamma in gammas:
            values, vectors = torch.linalg.eigh(torch.exp(-gamma * distances))
            found = leave_one_out(values.clamp_(min=0), vectors, targets, _ALPHAS)
            for predicted in found.numpy():
                if (loss := self.labels.loss(self.targets, predicted)) < best[0]:
                    best = loss, gamma, predicted
        return best
