"""Documents are finished: no placeholders, no dead links, no numbers without a command behind them."""

import re

import pytest

from .conftest import ROOT

DOCS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_no_placeholder_is_left(doc):
    assert not re.findall(r"\{[A-Z_]+\}|TODO|FIXME", doc.read_text())


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_relative_links_lead_somewhere(doc):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", doc.read_text()):
        assert (doc.parent / target).exists(), f"{doc.name} links to {target}"


@pytest.mark.parametrize("suite", sorted((ROOT / "suites").glob("*.yaml")), ids=lambda suite: suite.name)
def test_suites_are_valid(suite):
    from ddbench.benchmark.suite.suite import load_suite

    assert load_suite(suite).methods


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("suite", sorted((ROOT / "suites").glob("*.yaml")), ids=lambda suite: suite.name)
def test_a_suite_whose_data_are_not_embedded_says_where_they_come_from(suite):
    from ddbench.benchmark.suite.suite import load_suite

    head = [line for line in suite.read_text().splitlines() if line.startswith("#")]
    if {*load_suite(suite).datasets} - {"digits", "holdout[data=digits]"}:
        assert any(words in line for words in ("docs/reproduce.md", "docs/datasets.md", "--override") for line in head)


def test_the_readmes_table_is_what_its_records_say(tmp_path, capsys):
    from ddbench.benchmark.cli import main

    assert main(["merge", str(ROOT / "results/reference/zoo2/cifar10.json.gz"), "--into", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["table", str(tmp_path / "out"), "--metric", "summary", "--format", "md"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 7
    assert "\n".join(rows) in (ROOT / "README.md").read_text()
