"""Choice of the weights of parts, by leave-one-out kernel ridge regression on labeled images."""

from collections.abc import Iterator
from itertools import combinations
from numbers import Real
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
_SHARES_OF_COLORS = (0.1, 0.2, 0.35)  # beside other parts
_UNLABELED_SHARE_OF_COLORS = 0.1
_CLEARLY = 0.5  # standard errors by which other weights must be better than the usual ones

_LITTLE_TRAINING = 20_000  # images seen, after which a learner's usual share is small
_SMALL_SHARE, _LARGE_SHARE = 0.2, 0.6
_SHARE_OF_THREEFOLD = 0.15  # by which it grows when a learner sees three times as many images
_SHARE_OF_FROZEN = 0.7

Weights = dict[str, float]


def unlabeled_weights(fitted: dict[str, Any]) -> Weights:
    """Return the usual weights, and a small one for colors, which other parts hardly see.

    A share of 0.1 beside a dictionary gave 5 to 7 points on tiles of photographs, about 1 on
    Imagenette, and -1.4 to 0.7 on CIFAR-10 (examples/benchmarks/auto_weights.py --colors).
    """
    weights = usual_weights(fitted)
    if "colors" not in fitted or "colors" in weights or "frozen" in weights:
        return weights
    return _mixed(weights, _UNLABELED_SHARE_OF_COLORS)


def usual_weights(fitted: dict[str, Any]) -> Weights:
    """Return the weights that labels must beat; a learner's grows with the images it has seen.

    The numbers are from CIFAR-10, digits and photographs of hands, with learners trained for 20 and
    200 seconds (examples/benchmarks/auto_weights.py).
    """
    share = 0.0
    if "learner" in fitted:
        threefolds = np.log(max(fitted["learner"].n_images_seen_, 1) / _LITTLE_TRAINING) / np.log(3)
        share = float(np.clip(_SMALL_SHARE + _SHARE_OF_THREEFOLD * threefolds, 0.1, _LARGE_SHARE))
    other = next((name for name in ("dictionary", "pixels", "colors") if name in fitted), None)
    if other is None or (other != "dictionary" and {"learner", "frozen"} & fitted.keys()):
        shares = {"learner": 1.0} if share else {}
    else:
        shares = {other: 1 - share} | ({"learner": share} if share else {})
    if "frozen" not in fitted:
        return shares
    if not shares:
        return {"frozen": 1.0}
    rest = {name: (1 - _SHARE_OF_FROZEN) * part for name, part in shares.items()}
    return {"frozen": _SHARE_OF_FROZEN, **rest}


def _mixed(weights: Weights, share: float) -> Weights:
    """Return weights with a share for colors."""
    return {name: (1 - share) * w for name, w in weights.items()} | {"colors": share}


class Labels:
    """Labels or numeric targets of some of the images, as targets of a regression.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, k), or None
        Classes, indicators of several labels, or numbers; missing where an image has none.
    n : int
        Number of images.
    are_numbers : bool, optional
        Whether ``y`` has numeric targets. By default it has if some are not whole, or if most are
        different.

    Attributes
    ----------
    kind : {"none", "classes", "several", "numbers"}
    rows : ndarray of int
        Rows of X with a label.
    """

    def __init__(self, y: Any, n: int, are_numbers: bool | None = None):
        values: np.ndarray
        if y is None:
            self.kind, values, is_labeled = "none", np.zeros(0), np.zeros(n, bool)
        elif _are_numbers(y) if are_numbers is None else are_numbers:
            self.kind, (values, is_labeled) = "numbers", read_targets(y, n)
        else:
            values, is_labeled = read_labels(y, n, multilabel=True)
            self.kind = "classes" if values.ndim == 1 else "several"
        if self.kind == "classes":
            values = np.unique(values, return_inverse=True)[1]
        self.values = values.reshape(len(values), -1 if len(values) else 1)
        self.rows = np.flatnonzero(is_labeled)

    def some(self, n: int) -> np.ndarray:
        """Return the places of at most ``n`` labels, of all kinds."""
        return of_all_kinds(self.values, n)

    def targets(self, places: np.ndarray) -> np.ndarray:
        """Return targets (n, k): 1 or -1 for each class or label, or numbers with variance 1."""
        values = self.values[places]
        if self.kind == "numbers":
            return (values - values.mean(0)) / np.maximum(values.std(0), 1e-12)
        if self.kind == "classes":
            values = values == np.unique(values)
        return np.where(values, 1.0, -1.0)

    def loss(self, targets: np.ndarray, predicted: np.ndarray) -> float:
        """Return the loss of predictions: a smoothed error rate, or the mean squared error."""
        if self.kind == "numbers":
            return float(np.mean((predicted - targets) ** 2))
        several = self.kind == "several"
        mass = mass_of_classes(targets, np.ones(len(targets)), several)
        return smoothed_error(predicted, mass, several)

    def score(self, targets: np.ndarray, predicted: np.ndarray) -> float:
        """Return the accuracy of predictions, or their coefficient of determination."""
        if self.kind == "numbers":
            return float(r2_score(targets, predicted))
        if self.kind == "several":
            return float(np.mean((predicted > 0) == (targets > 0)))
        return float(np.mean(predicted.argmax(1) == targets.argmax(1)))


def _are_numbers(y: Any) -> bool:
    """Return whether values are numbers, some of them not whole or most of them different."""
    values = np.ma.compressed(y) if isinstance(y, np.ma.MaskedArray) else np.asarray(y)
    if values.dtype.kind not in "iuf":
        values = values.ravel()
        if not all(v is None or isinstance(v, Real) for v in values.tolist()):
            return False
        values = np.array([np.nan if v is None else v for v in values.tolist()], dtype=np.float64)
    values = values[np.isfinite(values)]
    if (values != np.round(values)).any():
        return True
    return len(np.unique(values)) > max(100, len(values) / 5)


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
        one_class = labels.kind == "classes" and targets.shape[1] < 2
        if len(targets) < 2 or one_class or not np.isfinite(labels.loss(targets, targets)):
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
        loss, _, predicted = self._judged({part: 1.0})
        return self.labels.score(self.targets, predicted) if np.isfinite(loss) else float("nan")

    def choose(self, fitted: dict[str, Any]) -> Weights:
        """Return the weights with the smallest loss, or the usual ones if none is clearly better.

        Parameters
        ----------
        fitted : dict of str to estimator
            Fitted parts.
        """
        if not self.distances:
            return unlabeled_weights(fitted)
        usual = usual_weights(fitted)
        least, gamma, _ = self._judged(usual)
        limit, best = least - _CLEARLY * self._error(least), usual
        for weights in self._candidates(usual):
            near = tuple(g for g in _GAMMAS if 0.5 <= g / gamma <= 2)
            if (loss := self._judged(weights, near)[0]) < limit:
                limit, best = loss, weights
        if best is usual or "colors" in best:
            return best
        limit, unmixed = limit - _CLEARLY * self._error(limit), best
        for weights in self._with_colors(unmixed):
            if (loss := self._judged(weights, (gamma,))[0]) < limit:
                limit, best = loss, weights
        return best

    def _error(self, loss: float) -> float:
        """Return the standard error of a loss: an error rate, or a mean of squares."""
        if self.labels.kind == "numbers":
            return float(loss * np.sqrt(2 / len(self.targets)))
        return float(np.sqrt(max(loss * (1 - loss), 0.0) / len(self.targets)))

    def _candidates(self, usual: Weights) -> Iterator[Weights]:
        for name in self.distances:
            yield {name: 1.0}
        for first, second in combinations(usual, 2):
            for share in _SHARES:
                yield {first: share, second: 1 - share}
        yield from self._with_colors(usual)
        if len(usual) > 2:
            for name, own in usual.items():
                for share in _SHARES:
                    rest = (1 - share) / (1 - own)
                    yield {n: share if n == name else rest * w for n, w in usual.items()}

    def _with_colors(self, weights: Weights) -> Iterator[Weights]:
        if "colors" in self.distances and "colors" not in weights:
            for share in _SHARES_OF_COLORS:
                yield _mixed(weights, share)

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
