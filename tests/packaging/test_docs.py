"""Documents are finished: no placeholders, no dead links, no numbers without a command behind them."""

import re
import shlex

import pytest

import doc_blocks
from ddbench.benchmark.cli import parser

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


def test_tables_are_what_their_records_say():
    """`make tables` renews them."""
    tables = 0
    for doc in doc_blocks.documents():
        text = doc.read_text(encoding="utf-8")
        tables += len(re.findall(r"^<!-- (?:table|rows):", text, re.MULTILINE))
        assert doc_blocks.renewed(text, doc_blocks.run, plots=False) == text, f"{doc.name}: make tables"
    assert tables  # the README's


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_figures_can_be_drawn_again(doc):
    """The command above a figure names records that are there, and the image that is shown."""
    for words, between in re.findall(r"^<!-- plot: ddbench plot (.+?) -->\n(.*?)^<!-- end -->", doc.read_text(), re.M | re.S):
        args = parser().parse_args(["plot", *shlex.split(words)])
        assert all((ROOT / folder).exists() for folder in args.folders)
        assert re.search(rf"\]\([^)]*{re.escape(args.out.name)}\)", between)
        assert (ROOT / args.out).exists()


def test_blocks_are_renewed_between_their_marks():
    def run(command: str) -> str:
        return f"**{command}**\n\n| a |\n| :-- |\n| 1 |\n\nbelow\n"

    old = "\n".join(
        f"before\n\n<!-- {kind}: ddbench table B --format {form} -->\nold\n<!-- end -->\n\nafter"
        for kind, form in (("table", "md"), ("rows", "md"), ("table", "text"))
    )
    new = doc_blocks.renewed(old, run)
    assert "old" not in new
    assert new.count("before") == new.count("after") == 3
    whole, rows, text = (block.split("<!-- end -->")[0].split("-->\n")[1] for block in new.split("before\n\n")[1:])
    assert whole == "\n**table B --format md**\n\n| a |\n| :-- |\n| 1 |\n\nbelow\n\n"
    assert rows == "\n| a |\n| :-- |\n| 1 |\n\n"
    assert text.startswith("\n```text\n**table B")
    assert doc_blocks.renewed(new, run) == new
    for broken in (old.replace("<!-- end -->", "", 1), old.replace("<!-- rows: ddbench", "<!-- rows: dbench")):
        with pytest.raises(ValueError, match="lacks its first or last mark"):
            doc_blocks.renewed(broken, run)


def test_a_block_whose_command_fails_says_why():
    with pytest.raises(ValueError, match="no records in nowhere"):
        doc_blocks.run("table nowhere")
