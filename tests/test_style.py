"""What linter, formatter and type checker say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # .ci/run has these beside the tests of the README
@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_code_is_clean(command):
    program, *arguments = command.split()
    pytest.importorskip(program)
    found = subprocess.run(
        [sys.executable, "-m", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_types_that_a_user_sees(tmp_path):
    pytest.importorskip("mypy")
    expected = {
        "SimCLR().fit([1])": "SimCLR",
        "SimCLR().fit([1]).history_": "list",
        "AutoFeatures().fit_transform([1])": "ndarray",
        "LinearProbe().fit([1], [1])": "LinearProbe",
        'load("file", learner_class=SimCLR)': "SimCLR",
    }
    lines = ["from sklearn_ssl import AutoFeatures, LinearProbe, SimCLR, load"]
    lines += [f"reveal_type({expression})" for expression in expected]
    (tmp_path / "user.py").write_text("\n".join(lines))
    # as where the package is installed: its own lines are not checked
    options = ["--ignore-missing-imports", "--follow-imports=silent", "user.py"]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *options],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    shown = [line for line in found.stdout.splitlines() if "Revealed type" in line]
    assert len(shown) == len(expected), found.stdout
    for line, kind in zip(shown, expected.values(), strict=True):
        assert re.search(rf"{kind}[\[\"]", line), line
