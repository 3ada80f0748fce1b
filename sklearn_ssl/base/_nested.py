"""Parameters of views and callbacks, as parameters of the learner that has them."""

from typing import Any, Self

from sklearn.base import BaseEstimator, clone

from sklearn_ssl.views import Views

__all__ = ["NestedParameters"]


class NestedParameters(BaseEstimator):
    """Mixin for parameters such as ``views__size`` and ``callbacks__name__parameter``."""

    views: Any
    callbacks: Any
    _default_views: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this learner and, if ``deep``, of the estimators among them.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
        """
        params = super().get_params(deep=False)
        nested = [(n, value) for n, value in params.items() if isinstance(value, BaseEstimator)]
        for name, value in nested if deep else ():  # torchvision's get_params is another thing
            params |= {f"{name}__{n}": v for n, v in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of views (``views__size``) and callbacks (``callbacks__name__...``).

        Parameters
        ----------
        **params : object

        Returns
        -------
        self
        """
        of_views = {n: params.pop(n) for n in list(params) if n.startswith("views__")}
        of_callbacks = {n: params.pop(n) for n in list(params) if n.startswith("callbacks__")}
        super().set_params(**params)  # first, as the recipe may depend on them
        for name, value in of_callbacks.items():
            self._set_of_callback(name, value)
        if of_views and self.views is None:
            self.views = self._default_views()
        if of_views and not isinstance(self.views, Views):
            raise ValueError(
                f"{', '.join(of_views)}: views={self.views!r} has no parameters that are known; "
                "give a Views object"
            )
        return super().set_params(**of_views)

    def _set_of_callback(self, name: str, value: Any) -> None:
        _, which, *parameter = name.split("__", 2)
        callbacks = self.callbacks or []
        names = [pair[0] if isinstance(pair, tuple) else "" for pair in callbacks]
        if which not in names:
            raise ValueError(
                f"{name}: there is no callback of this name. Callbacks whose parameters are set "
                "are given as pairs, callbacks=[('stop', EarlyStopping())]"
            )
        if parameter:
            changed = clone(callbacks[names.index(which)][1])
            changed.set_params(**{parameter[0]: value})  # which gives nothing back
        else:  # another one, or None for none
            changed = value
        pairs = zip(names, callbacks, strict=True)
        changed_ones = [(which, changed) if n == which else callback for n, callback in pairs]
        self.callbacks = [one for one in changed_ones if one != (which, None)]
