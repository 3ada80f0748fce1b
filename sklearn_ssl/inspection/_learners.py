"""What pictures and reports take for a learner."""

from typing import Any

from sklearn.utils.validation import check_is_fitted

from sklearn_ssl.base import ImageTransformer

__all__ = ["check_learner"]


def check_learner(estimator: Any, name: str = "estimator") -> None:
    """Raise TypeError for what is no learner, and NotFittedError for one that is not fitted.

    ``name`` is that of the argument.
    """
    if not isinstance(estimator, ImageTransformer):
        kind = (
            f"the class {estimator.__name__}"
            if isinstance(estimator, type)
            else f"a {type(estimator).__name__}"
        )
        raise TypeError(f"{name} is {kind}; give a fitted learner, as SimCLR().fit(X) is")
    check_is_fitted(estimator)
