"""Constraints that arguments of several classes share."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval

__all__ = ["COUNT", "COUNT_OR_ZERO", "NOT_NEGATIVE", "POSITIVE", "SHARE"]


COUNT = Interval(Integral, 1, None, closed="left")


COUNT_OR_ZERO = Interval(Integral, 0, None, closed="left")


POSITIVE = Interval(Real, 0, None, closed="neither")


NOT_NEGATIVE = Interval(Real, 0, None, closed="left")


SHARE = Interval(Real, 0, 1, closed="both")
