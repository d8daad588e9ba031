"""Suites: grids expand, and every mistake is reported at its line."""

import pytest

from ddbench.benchmark.suite.suite import expand, load_suite, suite
from ddbench.core.errors import UserError

HEAD = "backbones: [fake_net]\ndatasets: [fake_data]\n"  # two lines


@pytest.fixture
def load(tmp_path, fake_plugins):
    def load(text):
        file = tmp_path / "tau.yaml"
        file.write_text(text)
        return load_suite(file)

    return load


def test_a_suite_with_all_keys(load):
    found = load(
        HEAD
        + """
name: mine
methods:
  - fake
  - {name: fake, rate: [0.1, 0.2], steps: [1, 2]}
eval_backbones: ["fake_net[seed=1]"]
ipc: [1, 10]
protocols: [fake_probe]
seeds: [0, 1]
timeout: 60
controls: false
"""
    )
    grid = [f"fake[rate={rate},steps={steps}]" for rate in (0.1, 0.2) for steps in (1, 2)]
    assert found.methods == ["fake", *grid]
    assert (found.name, found.ipc, found.seeds, found.timeout, found.controls) == ("mine", [1, 10], [0, 1], 60, False)


def test_a_short_suite_is_named_after_its_file_and_takes_single_values(load):
    found = load(HEAD + "methods: fake\nipc: 3\nprotocols: fake_probe\n")
    assert (found.name, found.methods, found.ipc, found.controls, found.timeout) == ("tau", ["fake"], [3], True, None)


@pytest.mark.parametrize(
    ("entry", "specs"),
    [
        ("a[b=1]", ["a[b=1]"]),
        ({"name": "a"}, ["a"]),
        ({"name": "a", "b": True, "c": None}, ["a[b=true,c=none]"]),
        ({"name": "a", "b": [1, "x"]}, ["a[b=1]", "a[b=x]"]),
    ],
)
def test_entries_expand_to_specs(entry, specs):
    assert expand(entry) == specs


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("methods: fake\nipc: 0\n", 4, "ipc: 0 is not valid"),
        ("methods: fake\nipc:\n- 1\n- 0\n", 6, "ipc: 0 is not valid"),
        ("methods: fake\nipc: [1,\n true]\n", 5, "ipc: True is not valid"),
        ("methods: fake\nseeds: [-1]\n", 4, "seeds: -1 is not valid"),
        ("methods: fake\ntimeout: 0\n", 4, "timeout: 0 is not valid"),
        ("methods: fake\n\nnaem: x\n", 5, "unknown key 'naem': did you mean 'name'"),
        ("methods: fake\nmethods: fake\n", 4, "'methods' is given twice"),
        ("methods:\n- fake\n- {name: fake, rate: 1,\n   rate: 2}\n", 6, "'rate' is given twice"),
        ("ipc: 1\n", 1, "'methods' is missing"),
        ("methods: []\n", 3, "methods: .* at least 1 item"),
        ("methods:\n", 3, "methods: None is not valid"),
        ("methods:\n- fake\n- fakee\n", 5, "unknown method 'fakee': did you mean 'fake'"),
        ("methods:\n- fake[rate=x]\n", 4, "method 'fake': rate='x' is not valid"),
        ("methods:\n- name: fake\n  steps: 1\n  rate: [1, x]\n", 6, "method 'fake': rate='x' is not valid"),
        ("methods:\n- name: fake\n  steps: 1\n  reat: 1\n", 6, "unknown parameter 'reat': did you mean 'rate'"),
        ("methods:\n- fake\n- {name: fake, rate: []}\n", 5, "'rate' of 'fake' is an empty list"),
        ("methods:\n- fake\n- [fake]\n", 5, r"cannot read \['fake'\]"),
        ("methods: fake\nprotocols:\n\n - nope\n", 6, "unknown protocol 'nope'"),
        ("methods: fake\neval_backbones: [nope]\n", 4, "unknown backbone 'nope'"),
        ("methods: fake\nname: a/b\n", 4, "name: 'a/b' is not valid"),
        ("methods: [fake[rate=1], fake]\n", 3, r"quote specs with brackets"),
        ("methods: [fake\nipc: 1\n", 4, "expected"),
        ("methods: !!python/object/apply:os.getcwd []\n", 3, "could not determine a constructor"),
    ],
)
def test_mistakes_are_reported_at_their_line(load, text, line, message):
    with pytest.raises(UserError, match=rf"tau\.yaml:{line}: .*{message}") as error:
        load(HEAD + text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [('!!int ""', "not a YAML file"), ("!!bool x", "not a YAML file"), ("!!timestamp x", "not a YAML file"),
     ("[" * 3000 + "]" * 3000, "nested too deeply")],
)  # fmt: skip
def test_tags_and_nesting_that_break_the_reader_are_one_line(load, text, message):
    with pytest.raises(UserError, match=message) as error:
        load(f"methods: {text}\n")
    assert "\n" not in str(error.value)


def test_a_grid_without_end_is_counted_and_refused_before_it_is_expanded(load):
    values = ", ".join(map(str, range(100)))
    with pytest.raises(UserError, match=r"'fake' expands to 100,000,000 specs; an entry has at most 100,000"):
        load(f"methods:\n- {{name: fake, a: [{values}], b: [{values}], c: [{values}], d: [{values}]}}\n")


def test_a_suite_is_a_file():
    with pytest.raises(UserError, match="cannot read suite /dev/zero: not a file"):
        load_suite("/dev/zero")


@pytest.mark.parametrize("text", ["", "- a\n", "text\n"])
def test_what_is_not_a_mapping_is_not_a_suite(load, text):
    with pytest.raises(UserError, match=r"tau\.yaml:1: a suite is a mapping"):
        load(text)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    for name, message in (("missing.yaml", "No such file"), ("binary.yaml", "UTF-8"), (".", "directory")):
        with pytest.raises(UserError, match=message):
            load_suite(tmp_path / name)


def test_a_suite_from_python_is_checked_the_same_way():
    assert suite(methods=["random"]).ipc == [1]
    with pytest.raises(UserError, match="ipc: 0 is not valid"):
        suite(methods=["random"], ipc=[0])
    with pytest.raises(UserError, match="unknown key 'metods'"):
        suite(metods=["random"])


def test_a_suite_without_backbones_runs_on_the_second_zoo_of_the_declared_ones(load):
    from ddbench.core import registries

    assert load("methods: [fake]\ndatasets: [fake_data]\n").backbones == registries.embedded(2)
    assert [registries.BACKBONES.get(name).zoo for name in registries.embedded()] == [1] * 4 + [2] * 4


def test_a_broken_plugin_is_not_of_the_zoo_and_breaks_nobodys_default(monkeypatch):
    from ddbench.core import registries

    def broken(name, fact):
        raise UserError(f"{name} cannot be imported")

    monkeypatch.setattr(registries.BACKBONES, "constant", broken)
    assert registries.embedded() == []
