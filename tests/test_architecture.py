"""Imports point one way, and what public modules show is public and on the map."""

import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import small

import sklearn_ssl
from sklearn_ssl import SimCLR

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.name for path in (ROOT / "sklearn_ssl").iterdir() if path.name[0] != "_")


def test_imports_point_downwards():
    """Imports within functions count, too; the order of the rooms is in pyproject.toml."""
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    found = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "1 kept, 0 broken" in found.stdout


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "py.typed"])
def test_every_room_is_on_the_map(room):
    map_of_code = (ROOT / "docs" / "architecture.md").read_text()
    assert f"`{room.removesuffix('.py')}" in map_of_code


def test_no_room_imports_private_files_of_another():
    """``_utils`` and ``_labeled`` are for all rooms."""
    for path in (ROOT / "sklearn_ssl").rglob("*.py"):
        room = path.relative_to(ROOT / "sklearn_ssl").parts[0].removesuffix(".py")
        for found in re.findall(
            r"^\s*(?:from|import) sklearn_ssl\.(\w+)\._", path.read_text(), re.M
        ):
            assert found in (room, "_utils", "_labeled"), f"{path}: {found}"


def test_no_two_files_have_one_name():
    names = [path.name for path in (ROOT / "sklearn_ssl").rglob("*.py")]
    assert not [name for name in set(names) - {"__init__.py"} if names.count(name) > 1]


class FirstLoss(Exception):
    pass


def files_run(function):
    """Files of the package whose code runs in a call, until it returns or raises FirstLoss."""
    root, found = str(ROOT / "sklearn_ssl"), set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(root):
            found.add(os.path.relpath(frame.f_code.co_filename, root))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    except FirstLoss:
        pass
    finally:
        sys.setprofile(before)
    return found


def test_a_fit_runs_few_files_until_the_loss_and_transform_fewer(images, monkeypatch):
    """Bars for whoever has to follow them."""
    ssl = small(SimCLR, encoder="small_resnet").fit(images)
    assert len(files_run(lambda: ssl.transform(images))) <= 10
    task = type(ssl.net_.module_.task)
    forward = task.forward

    def stopped(self, *batch):
        forward(self, *batch)
        raise FirstLoss

    monkeypatch.setattr(task, "forward", stopped)
    assert len(files_run(lambda: ssl.fit(images))) <= 15


def test_one_name_for_one_thing():
    """The table of names in the map says what arguments are not called."""
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Names")[2]
    rows = re.findall(r"^\| `.*\| (.*) \|$", table.partition("| in code")[0], re.MULTILINE)
    not_called = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(not_called) > 15
    for name, cls in sklearn_ssl.all_estimators(None):
        assert not_called.isdisjoint(cls._get_param_names()), name


def test_few_classes_make_a_learner():
    ours = [cls for cls in SimCLR.__mro__ if cls.__module__.startswith("sklearn_ssl")]
    assert len(ours) <= 7
    assert len(SimCLR.__mro__) <= 16


def modules(private=False):
    names = [m.name for m in pkgutil.walk_packages(sklearn_ssl.__path__, "sklearn_ssl.")]
    return [name for name in names if ("._" in name) == private]


@pytest.mark.parametrize("name", ["sklearn_ssl", *modules()])
def test_what_a_public_module_shows_is_public(name):
    module = importlib.import_module(name)
    rooms = {other.rpartition(".")[2] for other in modules() if other.rpartition(".")[0] == name}
    shown = {shown for shown in dir(module) if shown[0] != "_"}
    assert module.__doc__
    assert shown - rooms == set(module.__all__) - rooms
    for public in module.__all__:
        item = getattr(module, public)
        assert item.__doc__ or not callable(item), public


def test_types_ship():
    assert (Path(sklearn_ssl.__file__).parent / "py.typed").exists()


# Releases


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    files = ("sklearn_ssl", "pyproject.toml", "README.md", "LICENSE", "tests", "examples")
    for name in files:  # apart, as building leaves folders behind
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", "wheels", "."]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = [name for name in archive.namelist() if not name.endswith("/")]
    info = f"sklearn_ssl-{sklearn_ssl.__version__}.dist-info/"
    code = {str(p.relative_to(ROOT)) for p in (ROOT / "sklearn_ssl").rglob("*.py")}
    assert {name for name in held if not name.startswith(info)} == code | {"sklearn_ssl/py.typed"}
    assert f"{info}licenses/LICENSE" in held


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    for name in ("docs", "examples", ".github"):  # apart, as building leaves folders behind
        ignored = shutil.ignore_patterns("_build", "generated", "auto_examples")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "site"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DOCS_RUN_EXAMPLES": "0"}
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    for name, _ in sklearn_ssl.all_estimators("learner"):
        page = tmp_path / "site" / "api" / "generated" / f"sklearn_ssl.{name}.html"
        assert "random_state" in page.read_text()


def test_versions_of_the_site_are_listed_the_latest_first(tmp_path):
    for name in ("0.2", "0.10", "0.9", "_static"):
        (tmp_path / name).mkdir()
    command = [sys.executable, ROOT / "docs" / "versions.py", tmp_path, "https://example.org/"]
    subprocess.run(command, check=True)
    found = json.loads((tmp_path / "versions.json").read_text())
    assert [entry["version"] for entry in found] == ["0.10", "0.9", "0.2"]
    assert found[1]["url"] == "https://example.org/0.9/"
    assert [entry.get("preferred", False) for entry in found] == [True, False, False]
    assert "url=0.10/" in (tmp_path / "index.html").read_text()


def test_versions_and_dependencies_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / ".github" / "conda" / "recipe.yaml").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    assert project["version"] == sklearn_ssl.__version__
    assert f'version: "{project["version"]}"' in recipe
    assert f"\nversion: {project['version']}\n" in citation
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    names = {"pytorch": "torch", "python-xxhash": "xxhash"}  # what conda-forge calls them
    found = [line.strip("- ").split(" ") for line in run.splitlines()[1:]]
    found = [names.get(name, name) + bounds for name, bounds in found]
    assert sorted(found) == sorted(project["dependencies"])
