"""An extension of Sphinx that writes the pages of the API from what the package says of itself.

So a new learner has a page. They are written in each build, and not in git.
"""

import importlib
import inspect
import pkgutil
import re
import shutil
import types
from pathlib import Path

from docutils import nodes

import sklearn_ssl
from sklearn_ssl._utils._estimators import arguments_by_group

FIRST = ["contrastive", "joint_embedding", "generative", "predictive", "multitask"]
KINDS = [
    ("learner", "Learners", "Pretrained by a pretext task, by family."),
    ("transformer", "Other transformers", "They take the same images and are not pretrained."),
    ("classifier", "Classifiers", "On features, and end to end."),
    ("regressor", "Regressors", "On features, and end to end."),
    (None, "Other estimators", ""),
]


def public_modules():
    """Modules with a face: a list of public names, and no underscore in their own."""
    found = pkgutil.walk_packages(sklearn_ssl.__path__, "sklearn_ssl.")
    names = sorted(m.name for m in found if "._" not in m.name and ".__" not in m.name)
    modules = {name: importlib.import_module(name) for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "__all__")}


def family(Estimator):
    """The public module that an estimator is from."""
    return Estimator.__module__.split("._")[0].removeprefix("sklearn_ssl.")


def title(text, mark="="):
    return f"{text}\n{mark * len(text)}\n\n"


def methods_of(item):
    """Public methods and properties that this package, not scikit-learn or torch, wrote."""

    def ours(name):
        written = next(vars(base)[name] for base in item.__mro__ if name in vars(base))
        if isinstance(written, property):
            written = written.fget
        written = getattr(written, "__func__", getattr(written, "fn", written))
        module = getattr(inspect.unwrap(written), "__module__", None) or ""
        return inspect.isfunction(written) and module.startswith("sklearn_ssl") and written.__doc__

    return [name for name in dir(item) if not name.startswith("_") and ours(name)]


def entry(name, item):
    """The directive that documents an object under this name."""
    if inspect.isclass(item):
        members = ", ".join(methods_of(item))
        return f".. autoclass:: {name}\n" + (f"   :members: {members}\n" if members else "") + "\n"
    if isinstance(item, types.GenericAlias):
        return f".. data:: {name}\n\n   {item}\n\n"
    kind = "function" if inspect.isroutine(item) else "data"
    return f".. auto{kind}:: {name}\n" + ("" if kind == "function" else "   :no-value:\n") + "\n"


def table(items):
    """A table of objects, by full name, and their summaries without references to papers."""
    rows = ""
    for name, item in items.items():
        has_own = inspect.isclass(item) or inspect.isroutine(item)
        summary = (inspect.getdoc(item) or "").partition("\n\n")[0] if has_own else ""
        summary = re.sub(r" *\[[0-9]+\]_", "", summary.replace("\n", " "))
        rows += f"   * - :py:obj:`~{name}`\n     - {summary}\n"
    return f".. list-table::\n   :widths: 35 65\n\n{rows}\n"


def toctree(pages, options="   :hidden:\n"):
    return f".. toctree::\n{options}\n" + "".join(f"   {page}\n" for page in pages) + "\n"


def estimator_groups():
    """(title, text, {name: class}) of each group; each estimator is in the first that fits."""
    seen, groups = set(), []
    for kind, heading, text in KINDS:
        found = {n: e for n, e in sklearn_ssl.all_estimators(kind) if n not in seen}
        seen |= found.keys()
        if found:
            groups.append((kind, heading, text, found))
    return groups


def write(folder):
    """Write index.rst, a page for each estimator and one for each module into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = title("API")
    index += "All that is public, by what it is. Learners are imported from ``sklearn_ssl``.\n\n"
    documented = {}
    for kind, heading, text, found in estimator_groups():
        index += title(heading, "-") + f"{text}\n\n"
        families = {family(e) for e in found.values()} if kind == "learner" else {""}
        order = [f for f in FIRST if f in families] + sorted(families - {*FIRST})
        for name in order:
            members = [n for n, e in found.items() if name in ("", family(e))]
            if name:
                index += title(name.replace("_", " ").capitalize(), "~")
            index += table({f"sklearn_ssl.{n}": found[n] for n in members})
            index += toctree(f"sklearn_ssl.{n}" for n in members)
        for name, item in found.items():
            documented[id(item)] = f"sklearn_ssl.{name}"
            page = title(name) + entry(f"sklearn_ssl.{name}", item)
            (folder / f"sklearn_ssl.{name}.rst").write_text(page)

    modules = {"sklearn_ssl": sklearn_ssl, **public_modules()}
    pages = []
    for module_name, module in modules.items():
        items = {name: getattr(module, name) for name in module.__all__}
        items = {name: item for name, item in items.items() if not inspect.ismodule(item)}
        page, own, others = "", [], []
        for name, item in items.items():
            full = f"{module_name}.{name}"
            if id(item) in documented:
                others.append(documented[id(item)])
                continue
            documented[id(item)] = full
            own.append(full)
            page += entry(full, item)
        head = title(module_name) + f".. module:: {module_name}\n\n"
        head += inspect.getdoc(module) + "\n\n"
        listed = {
            name: items[name.rpartition(".")[2]]
            for name in own + others
            if not isinstance(items[name.rpartition(".")[2]], types.GenericAlias)
        }
        head += table(listed) if listed else ""
        (folder / f"{module_name}.rst").write_text(head + page)
        pages.append(module_name)
    index += title("Modules", "-") + toctree(pages, "   :maxdepth: 1\n")
    (folder / "index.rst").write_text(index)


SHARED = "Shared parameters"


def shared_arguments(item):
    """Names of the arguments that a class shares with others; none if it has only such."""
    groups = arguments_by_group(item) if hasattr(item, "_arguments") else {}
    own = groups.pop("the method", [])
    return {name for names in groups.values() for name in names} if own else set()


def shorten_signature(app, what, name, item, options, signature, returns):
    """Show the arguments of the method itself."""
    if what == "class" and (shared := shared_arguments(item)):
        shown = [p for p in inspect.signature(item).parameters.values() if p.name not in shared]
        shown = [p.replace(annotation=p.empty) for p in shown]
        shown.append(inspect.Parameter("shared", inspect.Parameter.VAR_KEYWORD))
        signature = str(inspect.Signature(shown))
    return signature, returns


def split_parameters(app, what, name, item, options, lines):
    """Give the arguments that a class shares with others a field of their own."""
    shared = shared_arguments(item) if what == "class" else set()
    for i, line in enumerate(lines):
        found = re.match(r" +\*\*(\w+)\*\* : ", line)
        if found and found[1] in shared:
            lines[i:i] = [f":{SHARED}:", ""]
            return


def fold_shared(app, doctree, name):
    """Fold the shared arguments of a class."""
    for field in doctree.findall(nodes.field):
        if field[0].astext() == SHARED:
            summary = "images, features, device, encoder and training"
            start = f"<details><summary>{summary}</summary>"
            field[1].insert(0, nodes.raw("", start, format="html"))
            field[1].append(nodes.raw("", "</details>", format="html"))


def setup(app):
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", split_parameters, priority=900)  # after numpydoc
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("doctree-resolved", fold_shared)
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "api" / "generated"))
    return {"parallel_read_safe": True}
