"""An edited method is another method: its code is its identity, and what cannot move a result is not part of it."""

import ast
import hashlib
import json
import os
import subprocess
import sys

import pytest

from ddbench.benchmark.records.records import done_hashes, load_records
from ddbench.benchmark.suite.code import _HANDED, code_of, definitions
from ddbench.benchmark.suite.normal_form import normalised, text_of
from ddbench.core.method import METHODS, PROTOCOLS

PLUGIN = '''
from dataclasses import dataclass
import torch
from helpers import shade
from ddbench.core.data import to_float
from ddbench.methods import DistilledSet, Method, class_labels, register

@register("shades")
@dataclass(frozen=True)
class Shades(Method):
    """Grey images."""
    uses_backbone = False
    level: float = 0.5  # of white
    def distill(self, backbone, data, ipc, *, run):
        labels = class_labels(data.num_classes, ipc)
        return DistilledSet(torch.full((len(labels), 3, 8, 8), shade(self.level)), labels, data.class_names)
'''
HELPERS = "def shade(level):\n    return level / 2\n\ndef unused():\n    return 1\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The code of the method `shades` in a plugin file beside a file of helpers, as a fresh process finds it."""

    def code(plugin=PLUGIN, helpers=HELPERS):
        (tmp_path / "shades.py").write_text(plugin)
        (tmp_path / "helpers.py").write_text(helpers)
        monkeypatch.syspath_prepend(tmp_path)
        modules = set(sys.modules)
        try:
            METHODS.load_file(tmp_path / "shades.py")
            return code_of(METHODS.create("shades"))
        finally:
            METHODS._classes.pop("shades", None)
            for name in set(sys.modules) - modules:
                if name == "helpers" or "shades" in name:
                    del sys.modules[name]

    return code


def test_another_body_is_another_code(code):
    first = code()
    assert first == code()
    assert first != code(PLUGIN.replace("torch.full", "1 - torch.full"))
    assert first != code(PLUGIN.replace("8, 8", "16, 16"))


def test_a_helper_that_it_calls_counts_and_one_that_it_does_not_call_does_not(code):
    first = code()
    assert first != code(helpers=HELPERS.replace("level / 2", "level / 3"))
    assert first == code(helpers=HELPERS.replace("return 1", "return 2"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of white", "# of the brightest pixel"),
        ('"""Grey images."""', '"""Images of one grey."""'),
        ("level: float", "level: int"),
        ("labels = class", "labels  =  class"),
        ('"shades")', '"shades" )'),
    ],
)
def test_words_and_formatting_do_not_count(code, old, new):
    assert code() == code(PLUGIN.replace(old, new))


def test_statements_beside_the_definitions_count(code):
    table = HELPERS.replace("level / 2", "TABLE['by'] * level") + "TABLE = {}\nTABLE['by'] = 2\n"
    assert code(helpers=table) != code(helpers=table.replace("= 2", "= 3"))


def test_the_words_of_an_error_do_not_count_and_its_condition_does(code):
    check = "    if level > 1:\n        raise ValueError('too bright')\n"
    failing = HELPERS.replace("    return level / 2", f"{check}    return level / 2")
    assert code(helpers=failing) == code(helpers=failing.replace("too bright", "too light"))
    assert code(helpers=failing) != code(helpers=failing.replace("> 1", "> 2"))


def test_what_a_star_imports_counts(code):
    """Also through a second star, and by what it uses itself; stars that go round in a circle end."""
    plugin = PLUGIN.replace("from helpers import shade", "from helpers import *")
    first = code(plugin)
    assert first != code(plugin, HELPERS.replace("level / 2", "level / 3"))
    assert first == code(plugin, HELPERS.replace("return 1", "return 2"))
    through = "from helpers import *\n" + HELPERS.replace("level / 2", "level / by()") + "def by():\n    return 2\n"
    assert code(plugin, through) != code(plugin, through.replace("return 2", "return 3"))


def test_each_of_two_modules_under_one_name_counts(code):
    """`import a.b` beside `import a.c`, and a stand-in for what is not there."""
    plugin = PLUGIN.replace(
        "from helpers import shade", "try:\n    from fast import shade\nexcept ImportError:\n    from helpers import shade"
    )
    other = PLUGIN.replace(
        "from helpers import shade", "try:\n    from helpers import shade\nexcept ImportError:\n    from fast import shade"
    )
    for each in (plugin, other):
        assert code(each) != code(each, HELPERS.replace("level / 2", "level / 3"))


def test_how_a_backbone_makes_features_counts_for_what_uses_one():
    names = [METHODS.create(name) for name in ("lgm", "random")]
    folds = ("ddbench.core.folding", "_fold")
    found = [definitions(type(each).__module__, _HANDED if each.uses_backbone else ()) for each in names]
    assert [folds in each for each in found] == [True, False]
    assert ("ddbench.core.bank", "FeatureBank") not in found[0]


SOURCE = r'''
"""Every kind of thing that versions of Python have written differently."""
from __future__ import annotations

@decorated(1)
class A(B, metaclass=M):
    x: int = 1
    y: ClassVar[dict[str, "A"]] = {**z, "a": [*b, 1]}

    async def f(self, /, a: int, *b, c=None, **d) -> None:
        """Words."""
        assert a, f"{a!r:>{c}.2f}{b['k']}{a=} {a:}"
        raise ValueError(f"{a}") from error

def g(a, b="caf\u00e9 \U0001f600"):
    match a:
        case [1, *rest] if rest:
            return lambda x, *, y=(1, 2): x[1:2, ..., *rest]
        case {"k": A(x=1) | None as v}:
            return None
    try:
        with open(a) as c, d:
            yield from c
    except* OSError:
        return -1e-05, 1j, b"\x00", not a, a @ b, a if b else c, (w := 1), {i async for i in a}, "a" "b" f"{a}" "c"
'''


def test_one_source_has_one_digest_in_every_python():
    """The digest stands here, so that each interpreter that runs the tests is compared with all others."""
    text = text_of(normalised(ast.parse(SOURCE)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "20a371b57d00b7da"
    assert text.isascii()


def test_of_the_project_what_moves_pixels_counts():
    found = definitions("ddbench.methods.clpdd")
    for home, name in (("ridge", "ridge_dual"), ("optimise", "optimise"), ("images", "Pyramid")):
        assert (f"ddbench.core.{home}", name) in found
    assert ("ddbench.methods.kmeans", "KMeans") in found
    homes = {module.removeprefix("ddbench.") for module, _ in found}
    assert not homes & {"core.errors", "core.params", "core.registry", "core.bank", "core.store", "core.disk", "methods.lgm"}


def test_a_method_that_a_parameter_names_is_part_of_the_code():
    of = {code_of(METHODS.create(f"neighbors[of={name}]")) for name in ("lgm", "sfm", "lgm[copies=3]")}
    assert len(of) == 2  # parameters are in the identity by themselves


def test_every_plugin_has_a_code():
    for registry, names in ((METHODS, METHODS.names()), (PROTOCOLS, ("knn", "ridge-probe", "linear-probe", "ssl-pretrain"))):
        for name in names:
            assert len(code_of(registry.create(name))) == 16


def test_an_edited_method_is_run_again(tmp_path):
    """Through the command line: the run after an edit replaces what a table shows."""
    out, file = tmp_path / "out", tmp_path / "shades.py"
    (tmp_path / "helpers.py").write_text(HELPERS)

    def run(text):
        file.write_text(text)
        command = [sys.executable, "-P", "-m", "ddbench", "run", "-m", "shades", "--plugin", str(file), "--no-controls"]
        grid = ["-b", "mini_vit_mae", "--eval-backbone", "mini_vit_mae", "--protocol", "knn", "--out", str(out)]
        environment = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *grid], check=True, capture_output=True, env={**os.environ, **environment})
        return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]

    run(PLUGIN)
    first, second = run(PLUGIN.replace("shade(self.level)", "shade(self.level) / 4"))
    assert first["method_code"] != second["method_code"]
    assert first["set_fingerprint"] != second["set_fingerprint"]
    assert [record["method_code"] for record in load_records([out])] == [second["method_code"]]
    assert done_hashes(out) == {second["config_hash"]}
