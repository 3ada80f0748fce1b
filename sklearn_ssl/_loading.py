"""Loading of saved estimators."""

import os
from importlib.metadata import version
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_ssl._discovery import all_estimators
from sklearn_ssl._utils._storage import DAMAGED, expanded, read_file
from sklearn_ssl.base import FORMAT
from sklearn_ssl.base._saved import unpacked_arguments
from sklearn_ssl.encoders import is_elsewhere
from sklearn_ssl.views import Views

__all__ = ["load"]


def load(path: str | os.PathLike, *, learner_class: type | None = None, **params: Any) -> Any:
    """Read an estimator of this package that was saved by its method ``save``.

    No code of the file is run, and nothing is downloaded: its network is built anew from the
    arguments, and filled. A network that is larger than what the file holds is not built. Folders
    that the learner wrote to (``memory``, ``checkpoint``, ``decoded_cache``) are not taken from the
    file; give them again.

    Parameters
    ----------
    path : str or path
    learner_class : type, optional
        For a learner that is not of this package.
    **params : object
        Arguments that are code and could not be saved (the class of an encoder, a learner with one,
        callbacks, views that are a function, a ``RandomState``), an ``encoder`` that timm reads
        from a hub (``"timm/hf-hub:..."``) or a ``learner`` with one, and others that may be changed
        after a fit.

    Returns
    -------
    estimator
        Fitted; on the device that its argument asks for, or with a warning on the CPU.

    Raises
    ------
    ValueError
        If it is no such file, if it is damaged or of a newer version, or if arguments are missing.
    OSError
        If it cannot be read.

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
        classes = _known_classes(learner_class)
        if values["class"] not in classes:
            raise ValueError(
                f"{path} holds a {values['class']}, which is not of this package; give its class "
                "as load(path, learner_class=...)"
            )
        return _rebuilt(values, params, classes)
    except DAMAGED as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{path} does not fit together: {type(error).__name__}: {error}"
        ) from error


def _rebuilt(values: dict[str, Any], params: dict[str, Any], classes: dict[str, Any]) -> Any:
    """Rebuild the estimator that gave these values."""
    found = classes[values["class"]]
    arguments = unpacked_arguments(found, values["arguments"], classes)
    code = {**values["code"], **_leading_to_hubs(arguments)}
    _check_params(found, code, params)
    made = found(**{**arguments, **params})

    def rebuild(inner: dict[str, Any], lenders: list[Any]) -> Any:
        """Rebuild an estimator within it, with code lent by one that was given as an argument."""
        alike = [lender for lender in lenders if type(lender).__name__ == inner["class"]]
        wanted = {**inner["code"], **_leading_to_hubs(inner["arguments"])} if alike else {}
        lent = {name: getattr(alike[0], name) for name in wanted}
        return _rebuilt(inner, lent, classes)

    return made._restore(values, rebuild)


def _leading_to_hubs(arguments: dict[str, Any]) -> dict[str, str]:
    """Return the arguments that name a network which timm would read from a hub, and the names.

    A teacher is left out: none is built before a fit.
    """
    found = {name: _elsewhere(value) for name, value in arguments.items() if name != "teacher"}
    return {name: names[0] for name, names in found.items() if names}


def _elsewhere(value: Any) -> list[str]:
    """Return the names of such networks in an argument, in estimators in it, and so on."""
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
            f"{path} was written by sklearn-ssl {values.get('version')}, which is newer than this "
            f"{version('sklearn-ssl')}; upgrade it"
        )


def _known_classes(learner_class: Any) -> dict[str, Any]:
    classes: dict[str, Any] = {
        "Views": Views,
        **dict(all_estimators(None)),
    }
    if learner_class is not None:
        classes[learner_class.__name__] = learner_class
    return classes


def _check_params(learner_class: Any, code: dict[str, Any], params: dict[str, Any]) -> None:
    if missing := [f"{name}= ({what})" for name, what in code.items() if name not in params]:
        raise ValueError(
            "arguments that are code, or lead to a hub, are not taken from a file; give them "
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
            f"{', '.join(fixed)} cannot be changed: the network was built from it, or it is no "
            f"argument of {learner_class.__name__}"
        )
