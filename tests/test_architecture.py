"""Imports point one way, and what public modules show is public and on the map."""

import subprocess
import sys
from pathlib import Path

import pytest

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
