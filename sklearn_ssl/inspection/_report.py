"""Report on the features of each layer and pooling: measures, and a probe's accuracy."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv, cross_val_score

from sklearn_ssl._labeled._mixins import read_rows
from sklearn_ssl._utils._estimators import HasMethods, StrOptions, validate_params
from sklearn_ssl._utils._frames import make_frame
from sklearn_ssl._utils._labels import read_labels
from sklearn_ssl._utils._messages import naming
from sklearn_ssl.encoders import pooled_width
from sklearn_ssl.inspection._given import check_folds, check_learner
from sklearn_ssl.metrics import alpha_req, rank_me, uniformity
from sklearn_ssl.probes import LinearProbe


@validate_params(
    {
        "layers": ["array-like", None],
        "pools": ["array-like"],
        "probe": [HasMethods(["fit", "predict", "get_params"]), None],
        "cv": ["cv_object"],
        "frame": [StrOptions({"pandas", "polars"})],
    }
)
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
    """Measure the features of each layer and pooling, in one pass over the images.

    Parameters
    ----------
    learner : PretextLearner
        Fitted learner.
    X : array-like
        Images.
    y : array-like of shape (n,), optional
        Labels; None, NaN and -1 mark images without one. Without ``y``, the report has measures
        only.
    layers : sequence of str, optional
        Layers to report; by default those of :meth:`encoder_layers`, without nested layers.
    pools : sequence of {"avg", "max"}, int or None, default=("avg", 3)
        Poolings of each layer.
    probe : classifier or None, default=None
        ``None`` means :class:`LinearProbe`, which chooses its regularization and scaling for each
        layer and fold.
    cv : int or splitter, default=3
        Cross-validation; all rows of the report share its folds.
    frame : {"pandas", "polars"}, default="pandas"
        Library of the data frame that is returned.

    Returns
    -------
    DataFrame
        A row for each layer and pooling: ``layer``, ``pool`` (text in polars), ``width`` (dimension
        of the features); with labels, ``accuracy`` in cross-validation, ``spread`` (its standard
        deviation over folds) and ``error`` (its standard error due to the number of test images);
        and ``rank_me``, ``alpha_req``, ``uniformity``. With ``on_error="skip"``, images that cannot
        be read are left out.

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
    check_learner(learner)
    for name, values in (("layers", layers), ("pools", pools)):
        if values is not None and len(values) == 0:
            raise ValueError(f"{name}={values!r} is empty; give at least one")
    known = list(learner.encoder_layers())
    if layers is None:
        layers = [n for n in known if not any(n.startswith(f"{outer}.") for outer in known)]
    encoder = learner.encoder_
    asked = [(layer, pool) for layer in layers for pool in pools]
    with naming("layers or pools"):
        pairs = learner._feature_spec_of(encoder, *map(list, zip(*asked, strict=True)))
    images = learner._read_images(X, broken="blank")
    given = None if y is None else read_labels(y, len(images))
    features = learner._features(images, pairs)
    read = read_rows(features)
    features = features[read]
    rows, folds, n_tested = [], [], 0
    if given is not None:
        labels, is_labeled = given[0][read[given[1]]], given[1][read]
        check_folds(cv, labels)
        folds = list(check_cv(cv, labels, classifier=True).split(labels, labels))
        n_tested = len(np.unique(np.concatenate([test for _, test in folds])))
    widths = [pooled_width(encoder.layers[layer], pool) for layer, pool in pairs]
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    probe = LinearProbe() if probe is None else probe
    for (layer, pool), width, mine in zip(pairs, widths, parts, strict=True):
        row: dict[str, Any] = {"layer": layer, "pool": pool, "width": width}
        if given is not None:
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                scores = cross_val_score(probe, mine[is_labeled], labels, cv=folds)
            spread = scores.std(ddof=1) if len(scores) > 1 else np.nan
            row |= {"accuracy": scores.mean(), "spread": spread}
            row["error"] = np.sqrt(scores.mean() * (1 - scores.mean()) / n_tested)
        row["rank_me"] = rank_me(torch.from_numpy(mine))
        row["alpha_req"] = _or_nan(alpha_req, mine)
        row["uniformity"] = uniformity(mine)
        rows.append(row)
    if frame == "polars":  # whose columns have one type
        rows = [{**row, "pool": str(row["pool"])} for row in rows]
    return make_frame(rows, frame)


def _or_nan(measure: Any, features: np.ndarray) -> float:
    try:
        return measure(features)
    except ValueError:
        return np.nan
