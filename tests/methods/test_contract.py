"""Every registered method passes the contract tests, and so does the worked example of CONTRIBUTING.md."""

import re
from pathlib import Path
from typing import get_args

import pytest

from ddbench.benchmark.contract.checks import failures
from ddbench.core.method import METHODS, Origin

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.mark.parametrize("name", METHODS.names())
def test_method_keeps_the_contract(name):
    assert failures(name) == []


@pytest.mark.parametrize("name", METHODS.names())
def test_method_says_what_its_rows_stand_for(name):
    """Of its own, not by the default that an unlabelled plugin gets."""
    assert "origin" in vars(METHODS.get(name))
    assert METHODS.get(name).origin in get_args(Origin)


def test_the_worked_example_is_short_and_keeps_the_contract(tmp_path):
    text = CONTRIBUTING.read_text()
    code = re.search(r"<!-- worked example.*?-->\n```python\n(.*?)```", text, re.S).group(1)
    assert len(code.splitlines()) < 60
    plugin = tmp_path / "mean_match_example.py"
    plugin.write_text(code)
    METHODS.load_file(plugin)
    assert failures("mean_match") == []
