"""What scikit-learn has for callbacks, since 1.9; before, nothing."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

__all__ = ["CallbackSupportMixin", "with_callbacks"]

if TYPE_CHECKING or find_spec("sklearn.callback"):  # experimental, since scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
else:

    class CallbackSupportMixin:
        pass

    def with_callbacks(method):
        return method
