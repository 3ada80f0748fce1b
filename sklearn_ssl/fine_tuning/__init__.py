"""Encoders trained end to end with labels."""

from sklearn_ssl.fine_tuning._fine_tuned import (
    FineTunedClassifier,
    FineTunedRegressor,
    quick_classifier as quick_classifier,  # for other rooms; not public
)

__all__ = ["FineTunedClassifier", "FineTunedRegressor"]


def __dir__() -> list[str]:
    return __all__
