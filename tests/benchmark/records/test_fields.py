"""The table of record fields is what a run writes, and docs/records.md is the table."""

import pytest

from ddbench.benchmark.records.fields import FIELDS, fault
from ddbench.benchmark.suite.cell import blank_record

from ...packaging.conftest import ROOT
from ..conftest import make_cell
from ..fake_records import record


def test_every_field_that_a_run_writes_is_in_the_table():
    cell = make_cell()
    written = blank_record(cell, cell.evaluations[0], "ok")
    assert written.keys() - FIELDS.keys() == set()
    assert fault({**written, "top1": 50.0, "environment": {}}) is None


def test_the_docs_have_a_line_for_every_field():
    lines = (ROOT / "docs" / "records.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [f"| `{name}` | {field.kind} | {field.meaning} |" for name, field in FIELDS.items()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell_hash": "../../secret"}, "'cell_hash' is '../../secret', which is no name of a file"),
        ({"cell_hash": "..\\x"}, "'cell_hash' is '..\\\\x', which is no name of a file"),
        ({"config_hash": [1]}, "'config_hash' is list, not text"),
        ({"top1": "50"}, "'top1' is str, not number, or null"),
        ({"top1": float("nan")}, "'top1' holds what is no finite number"),
        ({"top1_per_seed": [1, "x"]}, "'top1_per_seed' holds what is no finite number"),
        ({"ipc": True}, "'ipc' is bool"),
        ({"top1": None}, "is ok without a 'top1'"),
    ],
)
def test_a_field_of_another_type_is_named(change, words):
    assert words in fault({**record(), **change})


def test_a_missing_field_is_named():
    made = record()
    del made["method"]
    assert fault(made) == "lacks 'method'"
    assert fault([]) == "is no mapping"
