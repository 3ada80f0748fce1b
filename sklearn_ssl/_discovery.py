"""Listing of all estimators."""

from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.base import PretextLearner

_KINDS: dict[str | None, type] = {
    "learner": PretextLearner,
    "transformer": TransformerMixin,
    "classifier": ClassifierMixin,
    "regressor": RegressorMixin,
    None: BaseEstimator,
}


def all_estimators(type_filter: str | None = "learner") -> list[tuple[str, Any]]:
    """Return all learners of this package, or all estimators of another kind.

    Parameters
    ----------
    type_filter : {"learner", "transformer", "classifier", "regressor"} or None, default="learner"
        Kind of estimator. Learners train on a pretext task. Transformers are learners, and those
        without pretext training. ``None`` means all kinds.

    Returns
    -------
    list of (name, class)
        Sorted by name.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> from sklearn_ssl import all_estimators
    >>> dict(all_estimators())["SimCLR"]
    <class 'sklearn_ssl.contrastive._simclr.SimCLR'>
    """
    import sklearn_ssl

    if not isinstance(type_filter, str | None) or type_filter not in _KINDS:
        raise ValueError(
            f"type_filter={type_filter!r} must be one of {list(_KINDS)}."
            f"{did_you_mean(type_filter, filter(None, _KINDS))}"
        )
    found = ((name, getattr(sklearn_ssl, name)) for name in sklearn_ssl.__all__)
    return sorted(
        (name, item)
        for name, item in found
        if isinstance(item, type) and issubclass(item, _KINDS[type_filter])
    )
