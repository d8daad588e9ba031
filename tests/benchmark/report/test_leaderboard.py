"""The leaderboard: a row per method with a link to its records, and nothing in it that cannot be compared."""

import json
import re
from collections import Counter, defaultdict

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.records.bundle import read_bundle
from ddbench.benchmark.report.leaderboard import _rows
from ddbench.benchmark.report.tables import tables

from ...packaging.conftest import ROOT
from ..fake_records import grid
from .test_page import browser  # noqa: F401

pytest.importorskip("jinja2", reason="needs jinja2: pip install 'ddbench[report]'")


def bundle(file, records):
    file.write_text(json.dumps({"bundle": 1, "records": records}))
    return str(file)


@pytest.fixture
def site(tmp_path):
    """Of two bundles: clpdd and controls of one user, sfm of another."""
    ours = bundle(tmp_path / "ours.json", grid(["clpdd"], seeds=(0, 1, 2)))
    theirs = bundle(
        tmp_path / "theirs.json", [r for r in grid(["sfm"], seeds=(0, 1, 2), display={"sfm": "sfm <b>"}) if r["ipc"]]
    )
    assert main(["report", ours, theirs, "--leaderboard", "-o", str(tmp_path / "site")]) == 0
    return tmp_path / "site"


def test_a_row_has_own_transfer_cost_and_a_link_to_its_records(site):
    text = (site / "index.html").read_text()
    rows = [re.sub(r"\s+", " ", row) for row in re.findall(r"<tr data-dataset(.*?)</tr>", text, re.DOTALL)]
    assert [re.search(r'class="name">([^<]*)<', row)[1] for row in rows] == ["full", "clpdd", "sfm &lt;b&gt;", "random"]
    (clpdd,) = (row for row in rows if ">clpdd<" in row)
    numbers = re.findall(r'class="number" data-sort="([^"]*)">([^<]*)<', clpdd)
    assert numbers[:3] == [("62.5", "62.5 [60.0, 65.0]"), ("52.5", "52.5 [50.0, 55.0]"), ("4.0", "4.0")]
    assert 'href="bundles/ours.json"' in clpdd
    assert "theirs" not in clpdd
    (random,) = (row for row in rows if ">random<" in row)
    assert random.count("href=") == 2, "both have it"
    assert read_bundle(site / "bundles" / "theirs.json")
    assert "sfm <b>" not in text
    assert "default-src 'none'" in text


def test_every_method_of_a_bundle_has_a_row_and_the_full_data_one(tmp_path):
    """Sets of several backbones too; two IPCs."""
    reference = ROOT / "results" / "reference" / "zoo2" / "cifar10.json.gz"
    again = [{**r, "ipc": 2, "config_hash": r["config_hash"][::-1]} for r in read_bundle(reference) if r["method"] == "clpdd"]
    more = bundle(tmp_path / "more.json", again)
    assert main(["report", str(reference), more, "--leaderboard", "-o", str(tmp_path / "site")]) == 0
    text = (tmp_path / "site" / "index.html").read_text()
    found = re.findall(r'class="name">([^<]*)<', text)
    methods = {label[0] for label, _ in tables(read_bundle(reference), "summary")[0].rows}
    assert len(set(found)) == len(methods) == 7
    assert "duet, 3 backbones" in found
    assert Counter(found) == dict.fromkeys(set(found), 2) | {"clpdd": 4}, "two protocols; clpdd at two IPCs"


def test_seconds_stand_with_their_warnings_and_the_machine_that_distilled(tmp_path):
    records = grid()
    for r in records:
        r["environment"] = {**r["environment"], "gpu": None, "cpu": "judging CPU"}
        if r["method"] == "clpdd":
            r["distill_environment"] = {**r["environment"], "cpu": "distilling CPU"}
    ours = bundle(tmp_path / "ours.json", records)
    assert main(["report", ours, "--leaderboard", "-o", str(tmp_path / "site")]) == 0
    text = (tmp_path / "site" / "index.html").read_text()
    rows = re.findall(r"<tr data-dataset(.*?)</tr>", text, re.DOTALL)
    assert all(("distilling CPU" in row) == (">clpdd<" in row) != ("judging CPU" in row) for row in rows)
    assert "2 different machines or settings; their seconds are not comparable" in text


def test_a_row_whose_records_are_not_found_is_no_silence():
    records = grid()
    (table,) = tables(records, "summary")
    others = [r for r in records if r["method"] != "clpdd"]
    names = {r[field]: r[field] for r in records for field in ("method_spec", "dataset", "protocol_spec")}
    with pytest.raises(LookupError, match="no records of clpdd"):
        _rows(table, others, names, defaultdict(dict))


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    ours = bundle(tmp_path / "ours.json", grid())
    for change, words in (
        ({"protocol_version": 2}, "mix versions 1, 2 of protocol"),
        ({"dataset_fingerprint": "e" * 64}, "different data under the name 'digits'"),
    ):
        other = bundle(tmp_path / "other.json", [{**r, **change, "config_hash": r["config_hash"] + "x"} for r in grid(["sfm"])])
        assert main(["report", ours, other, "--leaderboard", "-o", str(tmp_path / "site")]) == 2
        assert words in capsys.readouterr().err
    other = bundle(tmp_path / "other.json", [{**r, "top1": 99.0} for r in grid()])
    assert main(["report", ours, other, "--leaderboard", "-o", str(tmp_path / "site")]) == 2
    assert "one of the two is wrong" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--leaderboard"]) == 2
    assert "a leaderboard is of bundles" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_it_sorts_and_asks_nobody(browser, site):  # noqa: F811
    tab = browser.new_page()
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((site / "index.html").as_uri())
    tab.click("#table th button[data-key=transfer]")
    cells = "[...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].innerText)"
    assert tab.evaluate(cells)[:2] == ["clpdd", "sfm <b>"]
    tab.fill("#search", "sfm")
    assert tab.evaluate(cells) == ["sfm <b>"]
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert said == []
    assert asked == [(site / "index.html").as_uri()]
    tab.close()
