"""Arguments of learners, each declared once: default, constraint, description."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar, cast, dataclass_transform

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

from sklearn_ssl._utils._messages import did_you_mean

__all__ = [
    "COUNT",
    "COUNT_OR_ZERO",
    "NOT_NEGATIVE",
    "POSITIVE",
    "SHARE",
    "DeclaredArguments",
    "are_finite",
    "argument",
    "check_arguments",
    "plain",
]

COUNT = Interval(Integral, 1, None, closed="left")
COUNT_OR_ZERO = Interval(Integral, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")

_MOST_BITS = 1000  # of integers, which all become floats or tensors somewhere


def argument(
    *constraints: Any,
    default: Any = MISSING,
    doc: str = "",
    changeable: bool = False,
    trains: bool = True,
    writes: bool = False,
    kw_only: bool = True,
) -> Any:
    """Declare an argument of a learner, as the value of an annotated class attribute.

    Parameters
    ----------
    *constraints : object
        What it may be, in the terms of scikit-learn's parameter validation: types, ``None``,
        ``"boolean"``, intervals, options. Without any it is not checked.
    default : object, optional
        Without one the argument is required.
    doc : str, default=""
        Type on the first line, then the description, for docstrings of classes that inherit it.
    changeable : bool, default=False
        Whether it acts after the fit or in a continued one; what is built in cannot change.
    trains : bool, default=True
        Whether what is learned depends on it.
    writes : bool, default=False
        Whether it says where files are written. A saved learner comes without it, so that no file
        can have others written.
    kw_only : bool, default=True

    Examples
    --------
    >>> from sklearn_ssl.base import PretextLearner, argument
    >>> from numbers import Real
    >>> class Mine(PretextLearner):
    ...     strength: float = argument(Real, default=0.5)
    ...     lr: float = 1e-3  # another default of a shared argument
    ...     def _make_task(self, encoder, n_images): ...
    >>> Mine(strength=0.7).get_params()["strength"]
    0.7
    """
    metadata = {
        "constraints": list(constraints),
        "doc": doc,
        "changeable": changeable,
        "trains": trains,
        "writes": writes,
    }
    return field(default=default, kw_only=kw_only, metadata=metadata)


@dataclass_transform(kw_only_default=True, field_specifiers=(argument,))
class DeclaredArguments:
    """Base of classes that take their annotated attributes as arguments.

    They are dataclasses without being decorated, and scikit-learn's ``_parameter_constraints``
    follow from the declarations. A class that only gives another default for an inherited argument
    keeps the rest of its declaration.
    """

    _arguments: ClassVar[dict[str, dict[str, Any]]] = {}  # what was declared, by name
    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def _validate_params(self: Any) -> None:
        """Raise ValueError for arguments that are not what was declared."""
        values = self.get_params(deep=False)
        check_arguments(self._parameter_constraints, values, type(self).__name__)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class take its arguments.

        Raises
        ------
        TypeError
            If it has an ``__init__``, or an argument without a type.
        """
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} has an __init__ of its own, which hides the arguments that it "
                "inherits; declare each argument in the class: 'name: type = argument(default=...)'"
            )
        types = inspect.get_annotations(cls)
        inherited: dict[str, dict[str, Any]] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited |= vars(base).get("_arguments", {})
        bare = [n for n, value in vars(cls).items() if isinstance(value, Field) or n in inherited]
        if bare := [name for name in bare if name not in types]:
            raise TypeError(
                f"{cls.__name__}: give {', '.join(bare)} a type, as in "
                f"'{bare[0]}: float = argument(default=0.5)'"
            )
        doc = cls.__doc__
        dataclass(kw_only=True, eq=False, repr=False, match_args=False)(cls)
        cls.__doc__ = doc  # without one, a dataclass takes its signature
        declared = fields(cast(Any, cls))
        new = {f.name: dict(f.metadata) for f in declared if f.metadata}
        known = inherited | {name: new[name] for name in types if name in new}
        unchecked = dict(argument().metadata)
        cls._arguments = {f.name: known.get(f.name, unchecked) for f in declared}
        cls._parameter_constraints = {
            name: known["constraints"] or "no_validation" for name, known in cls._arguments.items()
        }
        super().__init_subclass__(**kwargs)


def check_arguments(constraints: dict[str, Any], values: dict[str, Any], owner: str) -> None:
    """Raise ValueError, which is also a TypeError, for values that break the constraints.

    The message is scikit-learn's, with a suggestion of the name that may have been meant.
    """
    for name, value in values.items():
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"The {name!r} parameter of {owner} is too large for a float")
        try:
            validate_parameter_constraints({name: constraints[name]}, {name: value}, owner)
        except InvalidParameterError as error:
            known = [c.options for c in constraints[name] if isinstance(c, StrOptions)]
            hint = did_you_mean(value, set().union(*known))
            raise InvalidParameterError(f"{error}{hint}") from None


def are_finite(values: Sequence, n: int) -> bool:
    """Return whether values are ``n`` numbers, none of them NaN or infinite."""
    return len(values) == n and all(isinstance(v, Real) and math.isfinite(v) for v in values)


def plain(value: Any) -> Any:
    """Convert NumPy's numbers to Python's, also within tuples and lists; keep all other values."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value
