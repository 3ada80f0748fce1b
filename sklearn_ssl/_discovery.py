"""The list of all learners."""

from sklearn_ssl.base import PretextLearner

__all__ = ["all_estimators"]


def all_estimators() -> list[tuple[str, type[PretextLearner]]]:
    """All learners of this package.

    Returns
    -------
    list of (name, class)
        Sorted by name.

    Examples
    --------
    >>> from sklearn_ssl import all_estimators
    >>> dict(all_estimators())["SimCLR"]
    <class 'sklearn_ssl.contrastive._simclr.SimCLR'>
    """
    import sklearn_ssl

    found = ((name, getattr(sklearn_ssl, name)) for name in sklearn_ssl.__all__)
    return sorted(
        (name, item)
        for name, item in found
        if isinstance(item, type) and issubclass(item, PretextLearner)
    )
