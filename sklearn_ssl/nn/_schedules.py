"""Schedules as functions of progress, the share of the training steps that are done (0 to 1)."""

import math

__all__ = ["cosine", "warmup_cosine"]


def cosine(progress: float | None, start: float, end: float) -> float:
    """Go from ``start`` to ``end`` along half a cosine; stay at ``start`` without a ``progress``.

    Examples
    --------
    >>> from sklearn_ssl.nn._schedules import cosine
    >>> [round(cosine(p, 0.99, 1.0), 3) for p in (0.0, 0.5, 1.0)]
    [0.99, 0.995, 1.0]
    """
    if progress is None:
        return start
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_cosine(progress: float, warmup: float = 0.0) -> float:
    """Rise linearly to 1 during the share ``warmup``, then fall to 0 along half a cosine.

    Examples
    --------
    >>> from sklearn_ssl.nn._schedules import warmup_cosine
    >>> [round(warmup_cosine(p, warmup=0.2), 3) for p in (0.1, 0.2, 0.6, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if warmup and progress <= warmup:
        return progress / warmup
    return cosine((progress - warmup) / (1 - warmup), 1.0, 0.0)
