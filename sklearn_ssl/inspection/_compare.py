"""Comparison of features for few and many labels: is self-supervision worth it?"""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Integral
from typing import Any

import numpy as np
from scipy.stats import t as student
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.ensemble._base import _set_random_states
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from sklearn_ssl._labeled._mixins import rows_for_scales
from sklearn_ssl._utils._estimators import COUNT, HasMethods, Interval, StrOptions, validate_params
from sklearn_ssl._utils._frames import make_frame
from sklearn_ssl._utils._labels import is_absent, read_labels
from sklearn_ssl._utils._messages import warn
from sklearn_ssl.auto import AutoFeatures
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.exceptions import LabelWarning
from sklearn_ssl.fine_tuning import FineTunedClassifier, quick_classifier
from sklearn_ssl.fixed import PatchDictionary, PretrainedEncoder
from sklearn_ssl.images import READING, PickedArray, count_images, load_images, opened, pick
from sklearn_ssl.inspection._given import check_columns
from sklearn_ssl.probes import LinearProbe
from sklearn_ssl.semi_supervised import SelfSupervisedClassifier
from sklearn_ssl.views import Views

_USUAL_N_LABELS = (50, 250, 1000)
_SUPERVISED = "supervised"
_LEARNERS = (PretextLearner, AutoFeatures)


@validate_params(
    {
        "n_labels": ["array-like", COUNT, None],
        "n_splits": [Interval(Integral, 1, 10_000, closed="both")],
        "n_fits": [Interval(Integral, 1, 10_000, closed="both")],
        "groups": ["array-like", None],
        "probe": [HasMethods(["fit", "predict", "get_params"]), None],
        "random_state": ["random_state"],
        "frame": [StrOptions({"pandas", "polars"})],
        "verbose": ["verbose"],
    }
)
def compare(
    transformers: Any,
    X: Any,
    y: Any,
    *,
    n_labels: int | Sequence[int] | None = None,
    n_splits: int = 5,
    n_fits: int = 3,
    groups: Any = None,
    probe: Any = None,
    random_state: Any = 0,
    frame: str = "pandas",
    verbose: int = 0,
) -> Any:
    """Compare image features by the accuracy of one classifier, for few and many labels.

    A quarter of the labeled images is held out as the test set. Each transformer is fitted to all
    other images, without labels. Then the same probe is fitted to the features of a few labeled
    images, for several random draws of them, and tested. A draw starts with one image of each
    class; the rest is random. The probe is :class:`LinearProbe`, which chooses its regularization
    and scaling for each transformer and each draw.

    :func:`verdict` sums up the result in a sentence, and :class:`LabelsDisplay` plots it.

    Parameters
    ----------
    transformers : estimator, dict of str to estimator, or list of pairs
        A single learner is compared with its usual rivals: pixels, PCA, HOG (if scikit-image is
        installed), its encoder before training, a :class:`PatchDictionary`, and a network trained
        from scratch on the labels. :class:`AutoFeatures` is a learner, too; its pretrained weights
        are a rival of their own. In a dict, ``"passthrough"`` stands for pixels and
        ``"supervised"`` for that network. It has the learner's encoder, but in place of
        "small_resnet" the faster "small_convnet". For each draw of labels, it trains for as long
        as one fit of the slowest learner takes (a minute if there is no learner), so its accuracy
        depends on the speed of the machine. A ``FunctionTransformer`` gets images, as for HOG;
        other scikit-learn transformers get each image as a row. Image classifiers, such as
        :class:`FineTunedClassifier`, are fitted to the labeled images only, and so are pipelines
        that end in a classifier: to pretrain on all images, pass the learner itself.
        :class:`SelfSupervisedClassifier`, and a ``FineTunedClassifier`` of a learner, also get the
        other images, without labels. ``memory`` is used; ``checkpoint`` is ignored, as every fit is
        a different training.
    X : array-like, or images in files
        Images in any form that learners accept. For rivals, files are read into arrays the way
        the learner reads them.
    y : array-like of shape (n,)
        Labels; None, NaN and -1 mark images without one.
    n_labels : int or sequence of int, optional
        Numbers of labels to learn from. By default those of 50, 250 and 1,000 that the training
        part has and, if it has fewer than 1,000, all of its labels. All labels are a single draw:
        ``error`` then holds for these labels, not for others of the same number.
    n_splits : int, default=5
        Number of draws of labels; all methods share them.
    n_fits : int, default=3
        Number of fits of each method that has a ``random_state``: the first uses it, the others use
        different seeds. ``"supervised"`` is fitted once to each of this many draws.
    groups : array-like of shape (n,), optional
        Groups of images, such as those of one patient. No group is on both sides of the split.
    probe : classifier of features, optional
        Used in place of ``LinearProbe()``. It should choose its own regularization and scaling, as
        no fixed choice suits all features.
    random_state : int, RandomState instance or None, default=0
        Determines the test set, the draws of labels, and the seeds of further fits.
    frame : {"pandas", "polars"}, default="pandas"
        Library of the data frame that is returned.
    verbose : int, default=0
        1 shows a progress bar over all fits.

    Returns
    -------
    DataFrame
        A row for each method and number of labels:

        - ``method``, ``kind`` ("learner", which is self-supervised, or "rival") and ``n_labels``;
        - ``accuracy``: the mean over draws and fits, and ``error``: its standard error, over draws,
          fits and test images together;
        - ``spread`` and ``spread_fits``: standard deviations over draws of labels and over fits
          (NaN if there is only one);
        - ``test_error``: the part of ``error`` that is due to the number of test images, or of test
          ``groups`` (NaN if there is only one);
        - ``rival``: the best rival other than the method itself (learners are rivals only if all
          methods are learners); ``gain``: the method's accuracy minus the rival's, on the draws
          that both were fitted to; ``gain_error``: the standard error of this difference, with
          draws and test images paired; ``gain_low`` and ``gain_high``: its 95 % confidence interval
          by Student's t, which is wide for few fits or draws;
        - ``width``: dimension of the features (0 for an image classifier); ``seconds``: mean
          duration of a fit, including the features of all images, or of its training if a learner
          was trained before.

        Accuracies are between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If images, labels or methods are not usable.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import compare, verdict
    >>> X, y = load_digits().images, load_digits().target
    >>> methods = {"pixels": "passthrough", "SimCLR": SimCLR(max_epochs=5, random_state=0)}
    >>> table = compare(methods, X, y, n_labels=50, n_splits=3, n_fits=1)
    >>> table[["method", "rival"]].values.tolist()
    [['pixels', ''], ['SimCLR', 'pixels']]
    """
    X = opened(X)
    n = count_images(X)
    labels, is_labeled = read_labels(y, n)
    if groups is not None:
        if len(groups) != n:
            raise ValueError(f"X has {n} rows, but groups has {len(groups)}; give one for each row")
        absent = [row for row, group in enumerate(groups) if is_absent(group)]
        if absent:
            raise ValueError(f"groups has no group in row {absent[0]}; give one for each image")
    methods = _named(transformers, X)
    learners = [learner for _, method in methods for learner in _learners_in(method)]
    images = _Images(X, learners[0] if learners else None)
    usable = np.flatnonzero(is_labeled & ~images.broken)
    codes = np.full(n, -1)
    codes[is_labeled] = np.unique(labels, return_inverse=True)[1]
    random = check_random_state(random_state)
    known, test = _split(usable, codes, groups, random)
    sizes = _sizes(n_labels, len(known))
    rest = np.setdiff1d(np.flatnonzero(~images.broken), test)
    if groups is not None:
        rest = rest[~np.isin(np.asarray(groups)[rest], np.asarray(groups)[test])]
    draws = [_draw(codes[known], random) for _ in range(n_splits)]
    seeds = [None, *random.randint(np.iinfo(np.int32).max, size=n_fits - 1).tolist()]

    plan = _Plan(images, codes, known, test, rest, sizes, draws, probe)
    results: dict[str, _Result] = {}
    n_all = sum(plan.n_fits(method, seeds) for _, method in methods)
    with tqdm(total=n_all, desc="compare", unit="fit", disable=not verbose) as bar:
        plan.bar = bar
        for name, method in methods:
            if not _is_classifier(method):
                results[name] = _of_features(plan, name, method, seeds)
        slowest = max((r.seconds for r in results.values() if r.is_learner), default=60.0)
        for name, method in methods:
            if _is_classifier(method):
                results[name] = _of_classifier(plan, name, method, seeds, slowest)
    in_order = [results[name] for name, _ in methods]
    where = None if groups is None else np.asarray(groups)[test]
    return make_frame([row for one in in_order for row in _rows(one, in_order, where)], frame)


_TOLD = [
    *("method", "kind", "n_labels", "accuracy", "spread", "spread_fits", "test_error"),
    *("rival", "gain", "gain_error", "gain_low", "gain_high"),
]


def verdict(table: Any) -> str:
    """Say in one sentence for each number of labels whether self-supervision was worth it.

    It was if the 95 % confidence interval of the gain is above 0.

    Parameters
    ----------
    table : DataFrame
        Result of :func:`compare`.

    Returns
    -------
    str
        A line for each number of labels, which compares the best learner with the best rival. If
        the table has no learner, it is about the best method. The line says what ± leaves out.

    Examples
    --------
    >>> import pandas
    >>> from sklearn_ssl.inspection import verdict
    >>> row = {"method": "SimCLR", "kind": "learner", "n_labels": 50, "accuracy": 0.911}
    >>> row |= {"spread": 0.02, "spread_fits": 0.01, "test_error": 0.01, "rival": "PCA"}
    >>> row |= {"gain": 0.081, "gain_error": 0.012, "gain_low": 0.05, "gain_high": 0.11}
    >>> verdict(pandas.DataFrame([row]))
    'With 50 labels, SimCLR is 8.1 ± 1.2 points above the best rival, PCA: worth it.'
    """
    check_columns(table, "table", _TOLD)
    columns = {name: list(table[name]) for name in table.columns}
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    lines = []
    for n in dict.fromkeys(row["n_labels"] for row in rows):
        here = [row for row in rows if row["n_labels"] == n]
        best = max(
            [row for row in here if row["kind"] == "learner"] or here,
            key=lambda row: row["accuracy"],
        )
        rival = next((row for row in here if row["method"] == best["rival"]), {})
        lines.append(f"With {n:,} label{'s' * (n > 1)}, {_sentence(best, rival)}.")
    return "\n".join(lines)


def _sentence(row: dict[str, Any], rival_row: dict[str, Any]) -> str:
    if not isinstance(row["rival"], str) or not row["rival"]:
        return f"{row['method']} has {100 * row['accuracy']:.1f} %, with nothing to compare it with"
    gain, error = 100 * row["gain"], 100 * row["gain_error"]
    rival = f"the best rival, {row['rival']}"
    more_or_less = "" if np.isnan(error) else f" ± {error:.1f}"
    if row["gain_low"] > 0:
        found, judged = f"is {gain:.1f}{more_or_less} points above {rival}", "worth it"
    elif row["gain_high"] < 0:
        found, judged = f"is {-gain:.1f}{more_or_less} points below {rival}", "not worth it"
    else:
        found = f"and {rival}, do not differ measurably ({gain:+.1f}{more_or_less} points)"
        judged = "no gain shown"
    found = f"{row['method']} {found}"
    one = []
    if row["kind"] == "learner":
        if rival_row.get("kind") != "learner":
            found += f": {judged}"
        # image classifiers have a different seed for each draw
        if np.isnan(row["spread_fits"]) and (row.get("width", 1) or np.isnan(row["spread"])):
            one.append("one fit, so that ± has no spread over fits")
    if np.isnan([each.get("spread", 0.0) for each in (row, rival_row)]).any():
        one.append("one draw of labels, so that ± has no spread over draws")
    if np.isnan(row["test_error"]):
        one.append("one group to test on, so that ± has no sampling error")
    return found + (f" ({'; '.join(one)})" if one else "")


# Methods


def _named(transformers: Any, X: Any) -> list[tuple[str, Any]]:
    """Return names and methods; add the usual rivals to a single one."""
    if isinstance(transformers, dict):
        pairs = list(transformers.items())
    elif isinstance(transformers, (list, tuple)):
        pairs = [tuple(pair) for pair in transformers]
    elif hasattr(transformers, "fit"):
        pairs = [*_usual_rivals(transformers, X), (type(transformers).__name__, transformers)]
    else:
        raise TypeError(
            f"transformers={transformers!r}: give a learner, or a dict of name to transformer"
        )
    if not pairs or not all(len(p) == 2 and isinstance(p[0], str) for p in pairs):
        raise ValueError(
            "transformers: give at least one, in a dict or a list of pairs (name, transformer)"
        )
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"transformers: names must differ, but are {names}")
    for name, method in pairs:
        if isinstance(method, str) and method not in ("passthrough", _SUPERVISED):
            raise ValueError(
                f"transformers[{name!r}]={method!r} must be 'passthrough', 'supervised' or a "
                "transformer"
            )
        if not isinstance(method, str) and not (
            hasattr(method, "fit") and (hasattr(method, "transform") or is_classifier(method))
        ):
            raise TypeError(
                f"transformers[{name!r}]={method!r} is neither a transformer nor a classifier"
            )
    return pairs


def _usual_rivals(learner: Any, X: Any) -> Iterator[tuple[str, Any]]:
    yield "pixels", "passthrough"
    found = _learner_in(learner)
    shape = None if found is None else found.image_shape
    values = math.prod(X.shape[1:] if len(getattr(X, "shape", ())) > 1 else shape or (32, 32, 3))
    yield "PCA", PCA(min(100, max(1, values // 2), count_images(X) // 2), random_state=0)
    if find_spec("skimage"):
        yield "HOG", FunctionTransformer(_hog)
    dictionary = PatchDictionary(random_state=0, **_reading_of(found))
    patches = max(1, math.isqrt(values // 3) - dictionary.patch_size + 1) ** 2  # of an image
    n_atoms = min(dictionary.n_atoms, max(1, patches * count_images(X) // 2))
    yield "patches", dictionary.set_params(n_atoms=n_atoms)
    if isinstance(found, AutoFeatures):
        if found.weights is not None:
            given = {name: getattr(found, name) for name in ("encoder", "weights", *READING)}
            yield "frozen weights", PretrainedEncoder(**given)
    elif found is not None:
        untrained = "random encoder" if found.weights is None else "frozen weights"
        yield untrained, clone(found).set_params(max_epochs=0, time_budget=None)
    yield _SUPERVISED, _SUPERVISED


def _hog(images: np.ndarray) -> np.ndarray:
    """Compute histograms of gradients in cells of an eighth of the side, at least 2 pixels."""
    from skimage.feature import hog

    if images.ndim < 3:
        images = load_images(images)
    color = images.ndim == 4 and images.shape[3] > 1
    images = images if color else images.reshape(*images.shape[:3])
    sides = images.shape[1:3]
    cell = [max(2, round(side / 8)) for side in sides]
    block = [min(2, side // c) for side, c in zip(sides, cell, strict=True)]
    options: dict[str, Any] = {"pixels_per_cell": cell, "cells_per_block": block}
    options["channel_axis"] = -1 if color else None
    return np.stack([hog(image, **options) for image in images]).astype(np.float32)


def _learners_in(method: Any) -> list[Any]:
    """Return the pretext learners in a method."""
    if isinstance(method, _LEARNERS):
        return [method]
    if isinstance(method, (str, type)) or not hasattr(method, "get_params"):
        return []
    if isinstance(method, SelfSupervisedClassifier) and method.learner is None:
        return [AutoFeatures(method.time_budget or 300.0)]
    parts = [part for part in method.get_params(deep=True).values() if part is not method]
    return [part for part in parts if isinstance(part, _LEARNERS)]


def _learner_in(method: Any) -> Any:
    return next(iter(_learners_in(method)), None)


def _reading_of(learner: Any) -> dict[str, Any]:
    """Return the arguments that control how a learner reads images."""
    return {} if learner is None else {name: getattr(learner, name) for name in READING}


def _is_trained(method: Any) -> bool:
    """Return True if a method contains a learner that is trained."""
    learner = _learner_in(method)
    if learner is None or isinstance(learner, AutoFeatures):
        return learner is not None
    return learner.max_epochs != 0 or learner.time_budget is not None


def _is_classifier(method: Any) -> bool:
    return method == _SUPERVISED if isinstance(method, str) else is_classifier(method)


def _from_scratch(learner: Any, seconds: float) -> FineTunedClassifier:
    """Make a network to train on labels; it has the learner's flips and rotations."""
    params: dict[str, Any] = {"time_budget": max(seconds, 1.0), "random_state": 0}
    if learner is None:
        return quick_classifier(**params)
    for name in ("device", "precision", *READING):
        params[name] = getattr(learner, name)
    views = getattr(learner, "views", None)
    kept: dict[str, Any] = {}
    if isinstance(views, Views):
        kept = {"flip": views.flip, "rotate": views.rotate}
    if isinstance(learner, AutoFeatures) or learner.encoder == "small_resnet":
        return quick_classifier(**kept, **params)
    views = FineTunedClassifier()._default_views().set_params(**kept)
    return FineTunedClassifier(encoder=learner.encoder, views=views, **params)


# Images and labels


class _Images:
    """Images as given, for learners, and as arrays, for other methods."""

    def __init__(self, X: Any, learner: Any):
        self.X, self.arrays, self.learner = X, X, learner
        self.broken = np.zeros(count_images(X), bool)
        if len(getattr(X, "shape", ())) < 2 or (hasattr(X, "iloc") and X.shape[1] == 1):
            self.arrays = load_images(X, **_reading_of(learner))
            if self.arrays.dtype.kind == "f":
                self.broken = np.isnan(self.arrays).any(axis=(1, 2, 3))
        elif isinstance(X, np.ndarray) and X.dtype.kind == "f":
            strange = np.flatnonzero(~np.isfinite(X.reshape(len(X), -1)).all(1))
            if len(strange):
                raise ValueError(
                    f"X contains NaN or infinity, first in row {strange[0]}; every pixel needs a "
                    "finite value: fill it, or leave the image out"
                )

    def given_to(self, method: Any, rows: np.ndarray) -> Any:
        """Return rows in the form that a method expects."""
        first = _first_step(method)
        if hasattr(first, "encoder_layers") or hasattr(first, "learner") or _learners_in(first):
            return pick(self.X, rows)
        some = pick(self.arrays, rows)
        if isinstance(some, PickedArray):
            some = some[np.arange(len(some))]
        if isinstance(first, FunctionTransformer) or getattr(some, "ndim", 2) <= 2:
            return some
        return np.reshape(some, (len(some), -1))


def _first_step(method: Any) -> Any:
    """Return the step that gets the images."""
    if isinstance(method, Pipeline):
        return _first_step(method[0])
    if isinstance(method, FeatureUnion):
        return _first_step(method.transformer_list[0][1])
    return _first_step(method.estimator) if isinstance(method, FrozenEstimator) else method


def _split(
    usable: np.ndarray, codes: np.ndarray, groups: Any, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Split labeled images into a training part and a quarter to test on."""
    if len(usable) < 8:
        raise ValueError(f"y has {len(usable)} usable labels; a comparison needs at least 8")
    y = codes[usable]
    if groups is not None:
        its = np.asarray(groups)[usable]
        if len(np.unique(its)) < 4:
            raise ValueError(
                f"groups has {len(np.unique(its))} groups of labeled images; give at least 4"
            )
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=random)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # on rare classes
            known, test = next(folds.split(usable, y, its))
        return usable[np.sort(known)], usable[np.sort(test)]
    counts = np.bincount(y)
    can = counts[counts > 0].min() > 1 and len(usable) // 4 >= (counts > 0).sum()
    known, test = train_test_split(
        usable, test_size=len(usable) // 4, stratify=y if can else None, random_state=random
    )
    return np.sort(known), np.sort(test)


def _sizes(n_labels: Any, n_known: int) -> list[int]:
    if n_labels is None:
        found = [n for n in _USUAL_N_LABELS if n <= n_known]
        return found if n_known >= _USUAL_N_LABELS[-1] else list(dict.fromkeys([*found, n_known]))
    asked = np.ravel(n_labels)
    if asked.size == 0 or asked.dtype.kind not in "iu" or asked.min() < 2:
        raise ValueError(f"n_labels={n_labels!r}: give whole numbers of 2 or more")
    each = list(dict.fromkeys(asked.tolist()))
    found, more = [n for n in each if n <= n_known], tuple(n for n in each if n > n_known)
    if more:
        happened = (
            f"n_labels={more} are more than the {n_known} labels that remain after holding out "
            "the test set"
        )
        if not found:
            raise ValueError(happened)
        warn(f"{happened}; they are left out", LabelWarning)
    return found


def _draw(codes: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw an order of labels that starts with one of each class."""
    order = random.permutation(len(codes))
    _, first = np.unique(codes[order], return_index=True)
    return np.concatenate([order[np.sort(first)], np.delete(order, first)])


# Fits


@dataclass
class _Plan:
    """Data, splits and draws that all methods share."""

    images: _Images
    codes: np.ndarray
    known: np.ndarray
    test: np.ndarray
    rest: np.ndarray
    sizes: list[int]
    draws: list[np.ndarray]
    probe: Any
    bar: Any = None

    def n_fits(self, method: Any, seeds: Sequence[int | None]) -> int:
        """Return how often a method is fitted."""
        if _is_classifier(method):
            return sum(len(self.draws_of(n, method, seeds)) for n in self.sizes)
        return len(seeds) if _is_random(method) else 1

    def draws_of(self, n: int, method: Any, seeds: Sequence[int | None]) -> list[np.ndarray]:
        """Return rows of ``n`` known images for each fit of a classifier."""
        draws = self.rows_of(n)
        if len(draws) == 1 and _is_random(method):  # fit a single draw with each seed
            draws *= len(seeds)
        return draws[: len(seeds)]

    def rows_of(self, n: int) -> list[np.ndarray]:
        """Return ``n`` rows of known images for each draw of labels; all of them are one draw."""
        return [draw[:n] for draw in self.draws[: 1 if n == len(self.known) else None]]


@dataclass
class _Result:
    """Results of a method; ``right`` is (n_fits, n_draws, n_test) for each number of labels."""

    name: str
    is_learner: bool
    width: int = 0
    seconds: float = 0.0
    right: dict[int, np.ndarray] = field(default_factory=dict)


def _of_features(plan: _Plan, name: str, method: Any, seeds: Sequence[int | None]) -> _Result:
    result = _Result(name, _is_trained(method))
    transformer = FunctionTransformer() if isinstance(method, str) else method
    found: dict[int, list[list[np.ndarray]]] = {n: [] for n in plan.sizes}
    seconds = []
    for seed in seeds[: plan.n_fits(transformer, seeds)]:
        plan.bar.set_description(f"compare: {name}")
        began = time.perf_counter()
        fitted = _reseeded(transformer, seed)
        fitted.fit(plan.images.given_to(fitted, plan.rest), None)
        seen, of_test = (
            np.asarray(fitted.transform(plan.images.given_to(fitted, rows))).reshape(len(rows), -1)
            for rows in (plan.rest, plan.test)
        )
        features = seen[np.searchsorted(plan.rest, plan.known)]
        seen = seen[rows_for_scales(np.arange(len(seen)))]
        # learners may have been trained before, or in a fit cached by memory=
        those = _learners_in(fitted)
        epochs = [e for one in those for e in getattr(one, "history_", getattr(one, "_report", ()))]
        trained = sum(epoch["seconds"] for epoch in epochs)
        seconds.append(max(time.perf_counter() - began, trained))
        result.width = features.shape[1]
        for n in plan.sizes:
            right = [_probed(plan, rows, features, seen, of_test) for rows in plan.rows_of(n)]
            found[n].append(right)
        plan.bar.update()
    result.right = {n: np.array(values) for n, values in found.items()}
    result.seconds = float(np.mean(seconds))
    return result


def _probed(
    plan: _Plan, rows: np.ndarray, features: np.ndarray, seen: np.ndarray, of_test: np.ndarray
) -> np.ndarray:
    """Return which test images a probe gets right after a fit to rows of the known images."""
    y = plan.codes[plan.known][rows]
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        if plan.probe is not None:
            probe = clone(plan.probe).fit(features[rows], y)
        else:  # as in SelfSupervisedClassifier, scales are also learned from unlabeled images
            probe = LinearProbe().fit(features[rows], y, X_unlabeled=seen)
        return probe.predict(of_test) == plan.codes[plan.test]


def _of_classifier(
    plan: _Plan, name: str, method: Any, seeds: Sequence[int | None], seconds: float
) -> _Result:
    if isinstance(method, str):
        method = _from_scratch(plan.images.learner, seconds)
    result = _Result(name, _is_trained(method))
    # these accept images without a label
    pretrains = result.is_learner and isinstance(
        method, (FineTunedClassifier, SelfSupervisedClassifier)
    )
    took = []
    for n in plan.sizes:
        each = []
        is_one = len(plan.rows_of(n)) == 1
        for rows, seed in zip(plan.draws_of(n, method, seeds), seeds, strict=False):
            plan.bar.set_description(f"compare: {name}")
            began = time.perf_counter()
            classifier, some = _reseeded(method, seed), plan.known[rows]
            seen = plan.rest if pretrains else some
            y = np.where(np.isin(seen, some), plan.codes[seen], -1)
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                classifier.fit(plan.images.given_to(classifier, seen), y)
                predicted = classifier.predict(plan.images.given_to(classifier, plan.test))
            each.append(predicted == plan.codes[plan.test])
            took.append(time.perf_counter() - began)
            plan.bar.update()
        result.right[n] = np.expand_dims(each, 1 if is_one else 0)
    result.seconds = float(np.mean(took))
    return result


def _is_random(estimator: Any) -> bool:
    if isinstance(estimator, str):
        return estimator == _SUPERVISED
    if isinstance(estimator, AutoFeatures) and estimator.plan is not None:
        return False
    return any(name.rpartition("__")[2] == "random_state" for name in estimator.get_params())


def _reseeded(estimator: Any, seed: int | None) -> Any:
    copied = clone(estimator)
    if not isinstance(copied, FrozenEstimator):
        names = [n for n in copied.get_params() if n.rpartition("__")[2] == "checkpoint"]
        copied.set_params(**dict.fromkeys(names))
    if seed is not None:
        _set_random_states(copied, seed)
    return copied


# Statistics


def _rows(mine: _Result, results: Sequence[_Result], groups: Any) -> Iterator[dict[str, Any]]:
    rivals = [one for one in results if not one.is_learner] or list(results)
    for n, right in mine.right.items():
        others = [one for one in rivals if one is not mine]
        # on the draws that both have: image classifiers have fewer
        gains = {one.name: _gain(right, one.right[n], groups) for one in others}
        rival = min(gains, key=lambda name: gains[name][0], default="")
        gain, gain_error, half = gains.get(rival, (np.nan,) * 3)
        spread, spread_fits = _spread(right.mean((0, 2))), _spread(right.mean((1, 2)))
        of_images = _over_images(right.mean((0, 1)), groups)
        of_labels, of_fits = (spread, right.shape[1]), (spread_fits, right.shape[0])
        yield {
            "method": mine.name,
            "kind": "learner" if mine.is_learner else "rival",
            "n_labels": n,
            "accuracy": float(right.mean()),
            "error": _together(of_images, of_labels, of_fits)[0],
            "spread": spread,
            "spread_fits": spread_fits,
            "test_error": _together(of_images)[0],
            "rival": rival,
            "gain": gain,
            "gain_error": gain_error,
            "gain_low": gain - half,
            "gain_high": gain + half,
            "width": mine.width,
            "seconds": mine.seconds,
        }


def _gain(right: np.ndarray, rival: np.ndarray, groups: Any) -> tuple[float, float, float]:
    """Return the difference of two accuracies, its standard error, and half its interval."""
    n_draws = min(right.shape[1], rival.shape[1])  # common draws
    right, rival = right[:, :n_draws].astype(float), rival[:, :n_draws].astype(float)
    difference = right.mean(0) - rival.mean(0)  # (n_draws, n_test)
    fits = [(_spread(one.mean((1, 2))), len(one)) for one in (right, rival)]
    draws = _spread(difference.mean(1)), n_draws
    error, freedom = _together(_over_images(difference.mean(0), groups), draws, *fits)
    return float(difference.mean()), error, error * float(student.ppf(0.975, freedom))


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _over_images(values: np.ndarray, groups: Any) -> tuple[float, int]:
    """Return the standard deviation over test images, or groups of them, and their number.

    For groups, it is the standard deviation of their sums, scaled to the mean over images.
    """
    off = values - values.mean()
    if groups is not None:
        _, codes = np.unique(groups, return_inverse=True)
        off = np.bincount(codes, off)
    n = len(off)
    return float(np.sqrt((off**2).sum() / (n - 1)) * n / len(values)) if n > 1 else np.nan, n


def _together(*parts: tuple[float, int]) -> tuple[float, float]:
    """Return the standard error from independent sources, and its degrees of freedom.

    The degrees of freedom are by Welch and Satterthwaite. A source is a standard deviation and the
    number of values behind it; a source of NaN is unknown, and left out.
    """
    known = [(s / np.sqrt(n), n) for s, n in parts if not np.isnan(s)]
    if not known:
        return np.nan, np.inf
    variance = sum(error**2 for error, _ in known)
    doubt = sum(error**4 / (n - 1) for error, n in known)
    return float(np.sqrt(variance)), variance**2 / doubt if doubt > 0 else np.inf
