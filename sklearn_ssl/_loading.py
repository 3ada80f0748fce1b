"""Loading of saved estimators."""

import os
from importlib.metadata import version
from typing import Any, TypeVar, overload

from sklearn.base import BaseEstimator

from sklearn_ssl._discovery import all_estimators
from sklearn_ssl._utils._saving import FORMAT, unpacked_arguments
from sklearn_ssl._utils._storage import DAMAGED, expanded, read_file
from sklearn_ssl.encoders import is_elsewhere
from sklearn_ssl.views import Views

_Loaded = TypeVar("_Loaded")


@overload
def load(path: str | os.PathLike, *, learner_class: type[_Loaded], **params: Any) -> _Loaded: ...


@overload
def load(path: str | os.PathLike, *, learner_class: None = None, **params: Any) -> Any: ...


def load(path: str | os.PathLike, *, learner_class: type | None = None, **params: Any) -> Any:
    """Load an estimator of this package from a file that its ``save`` wrote.

    No code in the file is run, and nothing is downloaded: the network is rebuilt from the
    arguments, and filled with the saved weights. A network that is larger than the weights in the
    file is not built. Folders that the learner wrote to (``memory``, ``checkpoint``,
    ``decoded_cache``) are not taken from the file; give them again.

    Parameters
    ----------
    path : str or path
        File to load.
    learner_class : type, optional
        Class of the learner, if it is not part of this package.
    **params : object
        Arguments to give again or to change. Code cannot be saved: the class of an encoder, a
        learner with one, callbacks, a function as views, a ``RandomState``. An ``encoder`` that
        timm reads from a hub (``"timm/hf-hub:..."``), or a ``learner`` with one, must also be given
        again. Arguments that may change after a fit can be given as well.

    Returns
    -------
    estimator
        Fitted estimator, on its ``device`` or, with a warning, on the CPU.

    Raises
    ------
    ValueError
        If the file is not one of this package, is damaged or from a newer version, or if arguments
        are missing.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR, load
    >>> X = load_digits().images[:64]
    >>> ssl = SimCLR(max_epochs=1, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ssl.save(Path(folder, "simclr.safetensors"))
    ...     again = load(Path(folder, "simclr.safetensors"))
    >>> bool((again.transform(X) == ssl.transform(X)).all())
    True
    """
    values = read_file(expanded(path))
    try:
        _check_format(path, values)
        classes: dict[str, Any] = {"Views": Views, **dict(all_estimators(None))}
        if learner_class is not None:
            classes[learner_class.__name__] = learner_class
        if values["class"] not in classes:
            raise ValueError(
                f"{path} holds a {values['class']}, which is not part of this package; give its "
                "class: load(path, learner_class=...)"
            )
        return _rebuilt(values, params, classes)
    except DAMAGED as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{path} has inconsistent contents: {type(error).__name__}: {error}"
        ) from error


def _rebuilt(values: dict[str, Any], params: dict[str, Any], classes: dict[str, Any]) -> Any:
    """Rebuild an estimator from its saved values."""
    found = classes[values["class"]]
    arguments = unpacked_arguments(found, values["arguments"], classes)
    code = {**values["code"], **_leading_to_hubs(arguments)}
    _check_params(found, code, params)
    made = found(**{**arguments, **params})
    if not values.get("fitted", True):
        return made

    def rebuild(inner: dict[str, Any], lenders: list[Any]) -> Any:
        """Rebuild an inner estimator; an argument of the same class lends it its code."""
        alike = [lender for lender in lenders if type(lender).__name__ == inner["class"]]
        wanted = {**inner["code"], **_leading_to_hubs(inner["arguments"])} if alike else {}
        lent = {name: getattr(alike[0], name) for name in wanted}
        return _rebuilt(inner, lent, classes)

    return made._restore(values, rebuild)


def _leading_to_hubs(arguments: dict[str, Any]) -> dict[str, str]:
    """Return the names of arguments that hold a network timm would read from a hub, and its name.

    ``teacher`` is left out: it is not built before a fit.
    """
    found = {name: _elsewhere(value) for name, value in arguments.items() if name != "teacher"}
    return {name: names[0] for name, names in found.items() if names}


def _elsewhere(value: Any) -> list[str]:
    """Return the names of networks on a hub in an argument, also in estimators within it."""
    if is_elsewhere(value):
        return [value]
    if isinstance(value, BaseEstimator):
        value = list(value.get_params(deep=False).values())
    return [n for v in value for n in _elsewhere(v)] if isinstance(value, (list, tuple)) else []


def _check_format(path: Any, values: Any) -> None:
    found = values.get("format") if isinstance(values, dict) else None
    if not isinstance(found, int):
        raise ValueError(f"{path} is a file of sklearn_ssl, but holds no learner")
    if found > FORMAT:
        raise ValueError(
            f"{path} was written by sklearn-ssl {values.get('version')}, which is newer than the "
            f"installed {version('sklearn-ssl')}; upgrade sklearn-ssl"
        )


def _check_params(learner_class: Any, code: dict[str, Any], params: dict[str, Any]) -> None:
    if missing := [f"{name}= ({what})" for name, what in code.items() if name not in params]:
        raise ValueError(
            "arguments that are code or lead to a hub are not loaded from a file; give them "
            f"again: load(path, ...) needs {', '.join(missing)}"
        )
    known = learner_class._arguments
    fixed = [
        name
        for name in params
        if name not in code and not known.get(name, {"changeable": False})["changeable"]
    ]
    if fixed:
        raise ValueError(
            f"{', '.join(fixed)} cannot be changed: the network was built from it, or "
            f"{learner_class.__name__} has no such argument"
        )
