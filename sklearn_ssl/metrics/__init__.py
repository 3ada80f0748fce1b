"""Measures of a representation that need no labels."""

from sklearn_ssl.metrics._rank_me import rank_me
from sklearn_ssl.metrics._spread import feature_spread

__all__ = ["feature_spread", "rank_me"]
