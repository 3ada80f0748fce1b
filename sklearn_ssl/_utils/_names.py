"""Names that were nearly right."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["did_you_mean"]


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """A sentence, after a space, that offers the known names most like what was given, or nothing.

    Examples
    --------
    >>> from sklearn_ssl._utils._names import did_you_mean
    >>> did_you_mean("ResNet-18", ["resnet18", "vit_b_16"])
    " Did you mean 'resnet18'?"
    """
    if not isinstance(given, str):
        return ""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), by_lower, cutoff=0.65)
    if not close:
        return ""
    *others, last = (repr(by_lower[name]) for name in close)
    return f" Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
