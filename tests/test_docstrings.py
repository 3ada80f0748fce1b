"""Every example in a docstring runs, and every public docstring is complete."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
from conftest import every_learner

import sklearn_ssl

MODULES = [
    "sklearn_ssl",
    *(m.name for m in pkgutil.walk_packages(sklearn_ssl.__path__, "sklearn_ssl.")),
]


def of_other_kinds(name):
    """Return whether it holds a learner whose example is like those of others, or takes long."""
    if ".inspection._" in name:  # reports and pictures take long
        return True
    family = re.search(r"\.(contrastive|generative|joint_embedding|predictive)\._", name)
    return family and not name.endswith(("._simclr", "._cpc", "._masked_autoencoder"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if of_other_kinds(name) else ())
        for name in MODULES
    ],
)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        item = getattr(module, public)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert item.__doc__, f"{name}.{public}"


@every_learner
def test_docstring_of_a_learner_is_complete(Learner):
    doc = Learner.__doc__
    for section in ("Parameters", "Attributes", "References", "Examples"):
        assert doc.count(f"\n{section}\n---") == 1
    assert "<" not in re.sub(r"'.*?'|\S*<\S*>", "", doc.split("Examples")[0]), "an unfilled part"
    documented = re.findall(r"^(\w+) : ", doc.split("Attributes\n")[0], re.M)
    assert sorted(documented) == sorted(Learner._get_param_names())
    groups = doc.split("Parameters\n---")[0].split("Arguments by group:\n")[1]
    grouped = re.findall(r"\w+", re.sub(r"(?m)^- .*?:", "", groups))
    assert sorted(grouped) == sorted(documented)
    for name, argument in inspect.signature(Learner).parameters.items():
        if argument.default is argument.empty:
            continue
        written = re.search(rf"^{name} : .*default=(.*)$", doc, re.M)
        assert written, f"{name} has no default in the docstring"
        assert str(argument.default) in written[1].replace('"', ""), name
    for method in ("fit", "transform", "score", "partial_fit", "encoder_layers"):
        assert "Parameters" in getattr(Learner, method).__doc__ or method == "partial_fit"
