"""Core can be read from the bottom up: no file needs one that needs it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ddbench.core


def imports(folder: Path) -> dict[str, set[str]]:
    """Which files of `folder` each one imports: within functions and for type checkers alone too."""
    found = {}
    for file in folder.glob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.level == 1]
        found[file.stem] = {node.module.split(".")[0] for node in nodes if node.module}
        found[file.stem] |= {alias.name for node in nodes if not node.module for alias in node.names}
    return found


def test_core_has_no_import_circle():
    graph = imports(Path(ddbench.core.__file__).parent)
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("encode") < order.index("bank") < order.index("run") < order.index("real")


def test_deferred_imports_count(tmp_path):
    (tmp_path / "a.py").write_text("def late():\n    from .b import f\n")
    (tmp_path / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a\n")
    with pytest.raises(CycleError):
        TopologicalSorter(imports(tmp_path)).prepare()
