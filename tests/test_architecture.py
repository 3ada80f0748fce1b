"""Imports point one way, as docs/architecture.md draws it."""

import ast
from pathlib import Path

import pytest

import sklearn_ssl

ROOT = Path(sklearn_ssl.__file__).parent
FAMILIES = {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").exists()}

# lowest first; a module imports only from layers below its own
LAYERS = [
    {"schedules", "exceptions", "docstrings", "constraints"},
    {"devices", "metrics", "optimizers", "task"},
    {"losses", "augment", "backbones", "images", "transformers", "watchers"},
    {"heads", "encoders"},
    {"views", "batches", "patches", "colour", "tokens", "encoder_factory"},
    {"crops"},
    {"training"},
    {"base", "reconstruction"},
    FAMILIES | {"discovery", "multitask"},
]


def ours(path):
    """Names of the modules of ours that a file imports when it is loaded."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn_ssl"):
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    name = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if name == "__init__":
        return
    level = next(i for i, layer in enumerate(LAYERS) if name in layer)
    below = set().union(*LAYERS[:level])
    allowed = below | ({name} if path.name == "__init__.py" else set())
    assert set(ours(path)) <= allowed


def test_every_module_is_on_the_map():
    map_of_code = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    for path in ROOT.iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert f"`{path.stem}`" in map_of_code, path.stem
