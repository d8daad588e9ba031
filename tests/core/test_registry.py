"""Registration, lookup, suggestions, clashes, plugin files."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from ddbench.core import registry as registry_module
from ddbench.core.errors import UserError
from ddbench.core.registry import Registry


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [])
    return Registry("thing", package="ddbench.core", group="ddbench.things")


def test_a_registered_class_is_found_by_name_and_knows_it(registry):
    @registry.register("box")
    @dataclass(frozen=True)
    class Box:
        size: int = 3

    assert registry.names() == ["box"]
    assert registry.get("box") is Box
    assert registry.create("box[size=4]") == Box(4)
    assert Box.name == "box"


def test_unknown_name_suggests_and_lists(registry):
    registry.register("herding")(type("A", (), {}))
    registry.register("full")(type("B", (), {}))
    with pytest.raises(UserError, match=r"^unknown thing 'hering': did you mean 'herding'\? known: full, herding$"):
        registry.get("hering")


def test_two_classes_under_one_name_clash(registry):
    registry.register("box")(type("First", (), {}))
    with pytest.raises(UserError, match="'box' is defined twice, by .*:First and by .*:Second; rename one"):
        registry.register("box")(type("Second", (), {}))


def test_entry_points_are_listed_without_being_imported(registry, monkeypatch):
    entry = EntryPoint("far", "no_such_module:Far", "ddbench.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry] if group == "ddbench.things" else [])
    assert registry.names() == ["far"]
    with pytest.raises(UserError, match="'far' from no_such_module:Far cannot be imported: ModuleNotFoundError"):
        registry.get("far")


def test_an_entry_point_cannot_replace_a_built_in(registry, monkeypatch):
    registry.register("box")(type("Box", (), {}))
    entry = EntryPoint("box", "other:Box", "ddbench.things")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry])
    with pytest.raises(UserError, match="defined twice"):
        registry.get("box")


def test_plugin_file(tmp_path, registry):
    with pytest.raises(UserError, match="does not exist"):
        registry.load_file(tmp_path / "missing.py")
    broken = tmp_path / "broken_plugin.py"
    broken.write_text("import no_such_module")
    with pytest.raises(UserError, match="broken_plugin.py cannot be imported: ModuleNotFoundError"):
        registry.load_file(broken)
    broken.write_text("import sys; sys.exit(0)")
    with pytest.raises(UserError, match="broken_plugin.py cannot be imported: SystemExit: 0"):
        registry.load_file(broken)
    (tmp_path / "plugin.txt").write_text("")
    with pytest.raises(UserError, match=r"plugin.txt is not named as Python is; rename it to plugin.py"):
        registry.load_file(tmp_path / "plugin.txt")
