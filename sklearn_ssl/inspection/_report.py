"""Which layer, pooled how: what a learner's features are worth, and whether it was worth it."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl.encoders import pooled_width
from sklearn_ssl.metrics import alpha_req, rank_me, uniformity

__all__ = ["compare", "layer_report"]


def _probe() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))


def _frame(rows: list[dict[str, Any]], library: str) -> Any:
    """A data frame of pandas or polars."""
    if library == "polars":
        import polars

        if "pool" in rows[0]:  # a column has one type
            rows = [{**row, "pool": str(row["pool"])} for row in rows]
        return polars.DataFrame(rows)
    try:
        import pandas
    except ImportError:
        raise ImportError(
            "tables need pandas: pip install pandas; or give frame='polars'"
        ) from None
    return pandas.DataFrame(rows)


def layer_report(
    learner: Any,
    X: Any,
    y: Any = None,
    *,
    layers: Sequence[str] | None = None,
    pools: Sequence[Any] = ("avg", 3),
    probe: Any = None,
    cv: Any = 3,
    frame: str = "pandas",
) -> Any:
    """What the features of each layer and pooling are worth, from one pass over the images.

    Parameters
    ----------
    learner : PretextLearner
        Fitted.
    X : array-like
        Images.
    y : array-like of shape (n,), optional
        Labels; without them there are measures only.
    layers : sequence of str, optional
        By default those of :meth:`encoder_layers`, but for layers within layers.
    pools : sequence of {"avg", "max"}, int or None, default=("avg", 3)
    probe : classifier or None, default=None
        ``None`` takes a logistic regression (C = 0.01) on standardized features.
    cv : int or splitter, default=3
    frame : {"pandas", "polars"}, default="pandas"

    Returns
    -------
    DataFrame
        A row for each layer and pooling: ``layer``, ``pool`` (text in polars), ``width`` (number of
        features), ``accuracy`` and ``spread`` (standard deviation over folds; with labels),
        ``rank_me``, ``alpha_req``, ``uniformity``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import layer_report
    >>> X, y = load_digits().images[:300], load_digits().target[:300]
    >>> ssl = SimCLR(max_epochs=1, random_state=0).fit(X)
    >>> report = layer_report(ssl, X, y)
    >>> report[["layer", "pool", "width"]].tail(2).values.tolist()
    [['layer4', 'avg', 256], ['layer4', 3, 256]]
    """
    check_is_fitted(learner)
    known = list(learner.encoder_layers())
    if layers is None:
        layers = [n for n in known if not any(n.startswith(f"{outer}.") for outer in known)]
    encoder = learner.encoder_
    asked = [(layer, pool) for layer in layers for pool in pools]
    pairs = learner._pairs_of(encoder, *map(list, zip(*asked, strict=True)))
    features = learner._features(learner._read_images(X, broken="blank"), pairs)
    widths = [pooled_width(encoder.layers[layer], pool) for layer, pool in pairs]
    rows = []
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    for (layer, pool), width, mine in zip(pairs, widths, parts, strict=True):
        row: dict[str, Any] = {"layer": layer, "pool": pool, "width": width}
        if y is not None:
            scores = _cross_validated(probe, mine, y, cv)
            row |= {"accuracy": scores.mean(), "spread": scores.std()}
        row["rank_me"] = rank_me(torch.from_numpy(mine))
        row["alpha_req"] = _or_nan(alpha_req, mine)
        row["uniformity"] = uniformity(mine)
        rows.append(row)
    return _frame(rows, frame)


def _cross_validated(probe: Any, features: np.ndarray, y: Any, cv: Any) -> np.ndarray:
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return cross_val_score(_probe() if probe is None else clone(probe), features, y, cv=cv)


def _or_nan(measure: Any, features: np.ndarray) -> float:
    try:
        return measure(features)
    except ValueError:
        return np.nan


def compare(
    transformers: Any,
    X: Any,
    y: Any,
    *,
    n_labels: Sequence[int] = (50, 250, 1000),
    n_splits: int = 3,
    probe: Any = None,
    random_state: int = 0,
    frame: str = "pandas",
) -> Any:
    """Is it worth it? Accuracy on the features of several transformers, for few labels and many.

    Each transformer is fitted once to all images that the test part leaves, without labels. Then a
    classifier is fitted to the features of some that have labels, anew for each draw of them.

    Parameters
    ----------
    transformers : dict of str to transformer, or list of pairs
        Learners, and what they have to beat: ``"passthrough"`` is raw pixels,
        ``PCA(100)``, ``SimCLR(max_epochs=0)`` for a random encoder. A ``FunctionTransformer`` gets
        images, as for HOG; other transformers of scikit-learn get each image as a row.
    X : array-like
        Images.
    y : array-like of shape (n,)
        Labels; -1 marks images without one.
    n_labels : sequence of int, default=(50, 250, 1000)
        Numbers of labels to learn from; those that leave fewer than a quarter of the labeled images
        to test on are left out.
    n_splits : int, default=3
        Draws of labels.
    probe : classifier or None, default=None
        ``None`` takes a logistic regression (C = 0.01) on standardized features.
    random_state : int, default=0
        Draws the test part and the labels.
    frame : {"pandas", "polars"}, default="pandas"

    Returns
    -------
    DataFrame
        A row for each transformer and number of labels: ``method``, ``n_labels``, ``accuracy``,
        ``spread`` (standard deviation over draws), ``width``, ``seconds`` (of the fit and of all
        features). :class:`LabelsDisplay` draws it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import compare
    >>> X, y = load_digits().images, load_digits().target
    >>> rivals = {"pixels": "passthrough", "PCA": PCA(20), "SimCLR": SimCLR(max_epochs=1)}
    >>> table = compare(rivals, X, y, n_labels=(50, 200), n_splits=2)
    >>> table[["method", "n_labels"]].values.tolist()[:2]
    [['pixels', 50], ['pixels', 200]]
    """
    y = np.asarray(y)
    labeled = np.flatnonzero(y != -1) if y.dtype.kind not in "US" else np.arange(len(y))
    n_test = len(labeled) // 4
    usable = [n for n in n_labels if n <= len(labeled) - n_test]
    if not usable:
        raise ValueError(
            f"n_labels={tuple(n_labels)} are more than the {len(labeled) - n_test} labels that are "
            "there to learn from"
        )
    known, test = train_test_split(
        labeled, test_size=n_test, stratify=y[labeled], random_state=random_state
    )
    rest = np.setdiff1d(np.arange(len(y)), test)
    rows = []
    pairs = transformers.items() if isinstance(transformers, dict) else transformers
    for name, transformer in pairs:
        began = time.perf_counter()
        fitted = _fitted(transformer, _safe_indexing(X, rest))
        features = _transformed(fitted, _safe_indexing(X, known))
        of_test = _transformed(fitted, _safe_indexing(X, test))
        seconds = time.perf_counter() - began
        for n in usable:
            scores = []
            for i in range(n_splits):
                some = _draw(y[known], n, random_state + i)
                model = _probe() if probe is None else clone(probe)
                with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                    model.fit(features[some], y[known][some])
                scores.append(model.score(of_test, y[test]))
            rows.append(
                {
                    "method": name,
                    "n_labels": n,
                    "accuracy": float(np.mean(scores)),
                    "spread": float(np.std(scores)),
                    "width": features.shape[1],
                    "seconds": seconds,
                }
            )
    return _frame(rows, frame)


def _draw(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of so many labels, of each class one at least if there are as many."""
    order = np.random.default_rng(seed).permutation(len(y))
    _, first = np.unique(y[order], return_index=True)
    return np.concatenate([order[first], np.delete(order, first)])[:n]


def _fitted(transformer: Any, X: Any) -> Any:
    fitted = FunctionTransformer() if transformer == "passthrough" else clone(transformer)
    return fitted.fit(_as_taken(fitted, X))


def _transformed(transformer: Any, X: Any) -> np.ndarray:
    found = np.asarray(transformer.transform(_as_taken(transformer, X)))
    return found.reshape(len(found), -1)


def _as_taken(transformer: Any, X: Any) -> Any:
    """Images in rows, for transformers that begin with what asks for rows."""
    first = transformer[0] if isinstance(transformer, Pipeline) else transformer
    takes_images = isinstance(first, FunctionTransformer) or hasattr(first, "encoder_layers")
    if takes_images or getattr(X, "ndim", 2) <= 2:
        return X
    return np.reshape(X, (len(X), -1))
