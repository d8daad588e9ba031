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
    """Top-level folders that a file imports from."""
    folders = {name.split(".")[1] for name in imported_modules(file) if name.startswith("ddbench.")}
    return {folder for folder in folders if folder in ALLOWED}


def imported_modules(file: Path) -> set[str]:
    """What a file imports, by dotted name, relatively or not, at any depth of its code; with names, their module."""
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
            found |= {".".join(module), *(".".join([*module, alias.name]) for alias in node.names)}
    return found


# a wing of benchmark/ may import from itself and from these; cli, api, catalogue, doctor and commands from all of them
WINGS = {
    "machine": set(),
    "records": {"machine"},
    "contract": set(),
    "suite": {"records", "machine"},
    "processes": {"suite", "records", "machine"},
    "cell": {"processes", "suite", "records", "machine"},
    "report": {"records", "machine"},
    "published": {"report", "suite", "records", "machine"},
    "foreign": {"suite", "records", "machine"},
    "dry_run": {"suite", "records", "machine"},
}
WING_FILES = [file for wing in WINGS for file in sorted((ROOT / "benchmark" / wing).rglob("*.py"))]
FRONT = {"cli", "api", "catalogue", "doctor", "commands"}


def test_the_wings_are_all_there_is():
    found = {path.stem for path in (ROOT / "benchmark").iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert found == WINGS.keys() | FRONT


@pytest.mark.parametrize("wing", ["", *WINGS])
def test_a_wing_lists_its_files(wing):
    """So that a reader finds the place from the docstring of the folder."""
    folder = ROOT / "benchmark" / wing
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("    ")]
    assert sorted(listed) == sorted(path.stem for path in folder.iterdir() if not path.name.startswith("__"))


@pytest.mark.parametrize("file", WING_FILES, ids=names)
def test_wings_import_downwards(file):
    home = file.relative_to(ROOT / "benchmark").parts[0]
    wings = {module.split(".")[2] for module in imported_modules(file) if module.startswith("ddbench.benchmark.")}
    assert wings <= WINGS[home] | {home}, f"{names(file)} imports {wings - WINGS[home] - {home}}"


def test_no_circle_of_imports():
    """Of files, deferred imports and those for types alone included: a circle is two files that are one idea."""
    modules = {".".join(("ddbench", *file.relative_to(ROOT).with_suffix("").parts)): file for file in FILES}
    graph = {name: {m for m in imported_modules(file) if m in modules and m != name} for name, file in modules.items()}
    while ends := {name for name in graph if not graph[name] or not any(name in imported for imported in graph.values())}:
        graph = {name: imported - ends for name, imported in graph.items() if name not in ends}
    assert not graph, f"circle among {sorted(graph)}"


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
def test_files_say_what_they_are(file):
    assert ast.get_docstring(ast.parse(file.read_text())), f"{names(file)} has no docstring"


def test_folders_export_what_plugin_authors_need():
    from ddbench import backbones, datasets, evaluation, methods

    for package in (backbones, datasets, evaluation, methods):
        assert callable(package.register)
        assert "register" in package.__all__
