"""Machinery of estimators: arguments that are declared once, and all-or-nothing fits."""

import functools
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

import numpy as np

# private in scikit-learn, and imported only here: all other files take it from this one
from sklearn.utils._param_validation import (
    HasMethods as HasMethods,
    Interval,
    InvalidParameterError,
    Options as Options,
    StrOptions,
    validate_parameter_constraints,
    validate_params as _validate_params,
)

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.exceptions import TrainingInterrupted

# what these functions call does not check its arguments again
validate_params = functools.partial(_validate_params, prefer_skip_nested_validation=True)

_Method = TypeVar("_Method", bound=Callable)

COUNT = Interval(Integral, 1, None, closed="left")
COUNT_OR_ZERO = Interval(Integral, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")

_NO_MEMORY = ("allocate memory", "Storage size calculation overflowed")  # torch's CPU errors
_MOST_BITS = 1000  # of integer arguments, which all become floats or tensors somewhere


def argument(
    *constraints: Any,
    default: Any = MISSING,
    doc: str = "",
    changeable: bool = False,
    trains: bool = True,
    writes: bool = False,
    group: str = "",
    kw_only: bool = True,
) -> Any:
    """Declare an argument of a learner; assign the result to an annotated class attribute.

    Parameters
    ----------
    *constraints : object
        Allowed values, as constraints of scikit-learn's parameter validation: types, ``None``,
        ``"boolean"``, intervals, options. Without constraints, the argument is not validated.
    default : object, optional
        Default value; an argument without one is required.
    doc : str, default=""
        Text for the docstrings of subclasses: the argument's type on the first line, then the
        description. By default, the entry in the docstring of the class that declares it.
    changeable : bool, default=False
        Whether the argument can change on a fitted learner, for a continued fit or for its
        features; False if the network or the task is built from it.
    trains : bool, default=True
        Whether the argument affects training.
    writes : bool, default=False
        Whether the argument is a path to write to. It is left out of saved learners, so that
        loading a file cannot cause writes.
    group : str, default=""
        Heading in docstrings, for this argument and those declared after it.
    kw_only : bool, default=True
        Whether the argument must be passed by keyword.

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
        "group": group,
    }
    return field(default=default, kw_only=kw_only, metadata=metadata)


@dataclass_transform(kw_only_default=True, field_specifiers=(argument,))
class DeclaredArguments:
    """Base of classes whose annotated attributes are their arguments.

    Subclasses become dataclasses without a decorator, and scikit-learn's ``_parameter_constraints``
    are derived from the declarations. To change only the default of an inherited argument, assign
    the new one; the rest of the declaration is inherited.
    """

    _arguments: ClassVar[dict[str, dict[str, Any]]] = {}  # declarations by name
    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def _validate_params(self: Any) -> None:
        """Raise ValueError for arguments that violate their declared constraints."""
        values = self.get_params(deep=False)
        check_arguments(self._parameter_constraints, values, type(self).__name__)

    def __init_subclass__(
        cls, *, like: Any = None, only: Collection[str] = (), **kwargs: Any
    ) -> None:
        """Set up the declared arguments, and copy those in ``only`` from the class ``like``.

        Raises
        ------
        TypeError
            If the class has an ``__init__``, or an argument without a type.
        """
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} has an __init__ of its own, which hides its inherited arguments; "
                "declare each argument in the class: 'name: type = argument(default=...)'"
            )
        for name, text in _documented(cls.__doc__ or "").items():
            declared = vars(cls).get(name)
            if isinstance(declared, Field) and declared.metadata and not declared.metadata["doc"]:
                declared.metadata = MappingProxyType({**declared.metadata, "doc": text})
        types = inspect.get_annotations(cls)
        if like is not None:
            copied = {f.name: f for f in fields(like) if f.name in only}
            for name, f in copied.items():
                own = vars(cls).get(name, f)  # a declaration, or another default
                if not isinstance(own, Field) or own is f:
                    default = f.default if own is f else own
                    setattr(cls, name, field(default=default, kw_only=True, metadata=f.metadata))
            types = {name: types.get(name, f.type) for name, f in copied.items()} | types
            cls.__annotations__ = types
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
        cls.__doc__ = doc  # a dataclass without a docstring would get its signature as one
        found = fields(cast(Any, cls))
        new = {f.name: dict(f.metadata) for f in found if f.metadata}
        before = {f.name: dict(f.metadata) for f in fields(like)} if like else {}
        before |= inherited
        for name, described in new.items():  # a new declaration stays in its group
            described["group"] = described["group"] or before.get(name, {}).get("group", "")
        known = inherited | {name: new[name] for name in types if name in new}
        unchecked = dict(argument().metadata)
        cls._arguments = {f.name: known.get(f.name, unchecked) for f in found}
        cls._parameter_constraints = {
            name: known["constraints"] or "no_validation" for name, known in cls._arguments.items()
        }
        _order_signature(cls)
        super().__init_subclass__(**kwargs)


def _documented(doc: str) -> dict[str, str]:
    """Return types and descriptions of the arguments whose default is added in each subclass."""
    _, _, section = inspect.cleandoc(doc).partition("Parameters\n----------\n")
    entries = re.findall(r"^(\w+) : (.*(?:\n .*)*)", section, re.MULTILINE)
    return {name: inspect.cleandoc(text) for name, text in entries if ", default=" not in text}


def check_arguments(constraints: dict[str, Any], values: dict[str, Any], owner: str) -> None:
    """Raise ValueError, which is also a TypeError, for values that violate the constraints.

    The message is scikit-learn's, plus a "did you mean" for misspelled options.
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
    """Return whether there are ``n`` values, all of them finite numbers."""
    return len(values) == n and all(isinstance(v, Real) and math.isfinite(v) for v in values)


def plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, also in tuples and lists; return others as is."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value


def fill_docstring(cls: Any) -> None:
    """Replace placeholders such as ``<shared parameters>`` and ``<attributes>`` by their text.

    The docstring is without indentation afterwards, as Python 3.13 and later compile it.
    """
    if cls.__doc__ is None:
        return
    of_bases = "\n\n".join(
        inspect.cleandoc(base.__doc__ or "") for base in reversed(cls.__mro__[1:])
    )
    cls.__doc__ = inspect.cleandoc(cls.__doc__)
    attributes = of_bases.partition("Attributes\n----------\n")[2]
    parts = {  # placeholders that have a line of their own, and texts
        "Parameters": f"{_overview(cls)}\n\nParameters",
        "<shared parameters>": _describe_arguments(cls),
        "<attributes>": attributes.partition("\n\n")[0],
    }
    lines = [parts.get(line, line) for line in cls.__doc__.split("\n")]
    usual = str(getattr(cls, "_usual_batch_size", ""))
    cls.__doc__ = "\n".join(lines).replace("<_usual_batch_size>", usual)


def arguments_by_group(cls: Any) -> dict[str, list[str]]:
    """Return the names of arguments; those without a group are specific to the method."""
    groups: dict[str, list[str]] = {"the method": []}
    for base in reversed(cls.__mro__):
        group = "the method"
        for name in inspect.get_annotations(base):
            if name in cls._arguments:
                group = cls._arguments[name]["group"] or group
                if not any(name in names for names in groups.values()):
                    groups.setdefault(group, []).append(name)
    return groups


def _order_signature(cls: Any) -> None:
    """Show the method's own arguments first in the signature."""
    signature = inspect.signature(cls.__init__)
    names = [name for names in arguments_by_group(cls).values() for name in names]
    parameters = sorted(  # positional ones stay where they are
        signature.parameters.values(),
        key=lambda p: (p.kind, names.index(p.name) if p.kind == p.KEYWORD_ONLY else -1),
    )
    cls.__init__.__signature__ = signature.replace(parameters=parameters)


def _overview(cls: Any) -> str:
    """List the arguments by group."""
    groups = arguments_by_group(cls)
    lines = [f"- {group}: {', '.join(names)}" for group, names in groups.items() if names]
    return "Arguments by group:\n\n" + "\n".join(
        textwrap.fill(line, 96, subsequent_indent="  ") for line in lines
    )


def _describe_arguments(cls: Any) -> str:
    """Return docstring entries of the arguments declared with a description, in their order."""
    entries = []
    for argument in fields(cls):
        kind, _, text = cls._arguments[argument.name]["doc"].partition("\n")
        if not kind or f"\n{argument.name} : " in (cls.__doc__ or ""):
            continue
        shown = f'"{default}"' if isinstance(default := argument.default, str) else repr(default)
        entries.append(
            f"{argument.name} : {kind}, default={shown}\n{textwrap.indent(text, '    ')}"
        )
    return "\n".join(entries)


def name_of_code(value: Any) -> str:
    """Return the module and name of a class or function, or of another object's class."""
    if isinstance(value, functools.partial):
        return f"functools.partial({name_of_code(value.func)}, ...)"
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def all_or_nothing(method: _Method) -> _Method:
    """Decorate a fit so that a failure, even in its last line, leaves the estimator unchanged.

    An out-of-memory error of torch on a CPU becomes a MemoryError.
    """

    @functools.wraps(method)
    def fit(self, *args, **kwargs):
        before = dict(vars(self))
        drawn_from: Any = getattr(self, "random_state", None)  # probes have none
        state = drawn_from.get_state() if hasattr(drawn_from, "get_state") else None
        try:
            return method(self, *args, **kwargs)
        except TrainingInterrupted:
            raise
        except BaseException as error:
            vars(self).clear()
            vars(self).update(before)
            if state is not None:
                drawn_from.set_state(state)
            if type(error) is RuntimeError and any(said in str(error) for said in _NO_MEMORY):
                less = "fewer samples or features"
                if hasattr(self, "batch_size"):
                    less = "smaller views, a smaller batch_size or a smaller network"
                raise MemoryError(f"{error}; try {less}") from error
            raise

    return cast(_Method, fit)
