"""Imports point one way, and what public modules show is public and on the map."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_ssl

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


def test_files_are_short_or_say_why():
    for path in sorted((ROOT / "sklearn_ssl").rglob("*.py")):
        lines = path.read_text().splitlines()
        assert len(lines) <= 300 or lines[0].startswith("# Long because"), path


def test_types_ship():
    assert (Path(sklearn_ssl.__file__).parent / "py.typed").exists()
