"""Applying a fitted network to images, in chunks."""

from sklearn_ssl.inference._apply import apply

__all__ = ["apply"]
