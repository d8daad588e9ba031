"""The tree is the namespace, imports point one way, and nothing is dispatched on names."""

import ast
from pathlib import Path

import pytest

import ddbench.benchmark
import ddbench.core
import ddbench.methods

from .conftest import ROOT

# a folder may import from itself and from these
ALLOWED = {
    "core": set(),
    "backbones": {"core"},
    "datasets": {"core"},
    "methods": {"core", "backbones", "datasets"},
    "evaluation": {"core", "backbones", "datasets"},
    "benchmark": {"core", "backbones", "datasets", "methods", "evaluation"},
    "ddbench": {"core", "backbones", "datasets", "methods", "evaluation", "benchmark"},
}
FILES = [file for folder in ALLOWED for file in sorted((ROOT / folder).rglob("*.py"))]


def names(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("package", [ddbench.benchmark, ddbench.core, ddbench.methods])
def test_a_top_level_folder_is_a_package_of_the_namespace(package):
    assert Path(package.__file__).resolve().parent == ROOT / package.__name__.rpartition(".")[2]


@pytest.mark.parametrize("file", FILES, ids=names)
def test_imports_point_one_way(file):
    home = file.relative_to(ROOT).parts[0]
    for imported in imported_folders(file):
        assert imported == home or imported in ALLOWED[home], f"{names(file)} imports from {imported}"


def imported_folders(file: Path) -> set[str]:
    """Top-level folders that a file imports from, relatively or as `ddbench.folder`, at any depth of its code."""
    package = ("ddbench", *file.relative_to(ROOT).parts[:-1])
    if package[1] == "ddbench":  # the front door is the namespace itself
        package = ("ddbench",)
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            found |= {".".join([*module, alias.name]) for alias in node.names}
    folders = {name.split(".")[1] for name in found if name.startswith("ddbench.") and name.count(".") >= 1}
    return {folder for folder in folders if folder in ALLOWED}


def test_the_import_finder_sees_relative_and_absolute_imports(tmp_path, monkeypatch):
    file = tmp_path / "methods" / "deep" / "x.py"
    file.parent.mkdir(parents=True)
    lines = (
        "from ...evaluation import knn",
        "from ddbench.datasets import a",
        "from ... import benchmark",
        "import ddbench.core.run",
    )
    file.write_text("\n".join(lines))
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert imported_folders(file) == {"evaluation", "datasets", "benchmark", "core"}


@pytest.mark.parametrize("file", FILES, ids=names)
def test_nothing_is_dispatched_on_plugin_names(file):
    """`if method == "clpdd"` would make adding a method an edit here; what plugins are is declared by them."""
    plugins = {
        "clpdd", "random", "full", "herding", "centroids", "kmeans", "mkdt", "krrst", "untrained", "teacher_random",
        "teacher_high_loss", "teacher_full", "ridge-probe", "linear-probe", "lgm-probe", "knn", "ssl-pretrain",
    }  # fmt: skip
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Compare):
            constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            assert not constants & plugins, f"{names(file)}:{node.lineno} compares with {constants & plugins}"


@pytest.mark.parametrize("file", FILES, ids=names)
def test_files_are_short_and_say_what_they_are(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text)), f"{names(file)} has no docstring"


def test_folders_export_what_plugin_authors_need():
    from ddbench import backbones, datasets, evaluation, methods

    for package in (backbones, datasets, evaluation, methods):
        assert callable(package.register)
        assert "register" in package.__all__
