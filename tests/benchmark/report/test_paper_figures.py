"""Figures for papers: every kind in every format, fonts embedded as letters, one line where there is nothing to draw."""

import json

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.report.page import Curve
from ddbench.benchmark.report.paper_figures import COLUMN, figure
from ddbench.core.errors import UserError

from ..fake_records import grid
from .test_page import run_folder

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'ddbench[plot]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.mark.parametrize("kind", ["pareto", "transfer", "curve"])
def test_a_figure_of_each_kind_is_a_column_wide_with_letters_as_letters(tmp_path, kind):
    curves = [Curve("clpdd", "a", [(1, 4.0), (5, 1.0)]), Curve("lgm", "b", [(1, 2.0), (5, 1.5)])]
    out = figure(grid(seeds=(0, 1)), kind, tmp_path / "f.svg", curves=curves, real_methods=["centroids"])
    text = out.read_text()
    assert f'width="{72 * COLUMN:.6g}' in text
    assert ">clpdd<" in text.replace(" <", "<"), "text, not outlines"


def test_every_method_is_named_at_its_point(tmp_path):
    """Names that found no place used to become numbers."""
    methods = [f"lgm[steps={k}]" for k in range(1, 13)]  # all within half a point, at one cost
    close = [{**r, "top1": r["top1"] if r["method"] == "random" else 50 + len(r["method_spec"]) / 4} for r in grid(methods)]
    text = figure(close, "pareto", tmp_path / "f.svg").read_text()
    assert all(text.count(f">{method}<") == 1 for method in methods)


def test_a_figure_of_several_datasets_says_how_to_choose(tmp_path):
    more = [*grid(), *grid(dataset="other")]
    with pytest.raises(UserError, match="there are 2; choose --dataset 'digits' --ipc 1; --dataset 'other' --ipc 1"):
        figure(more, "pareto", tmp_path / "f.svg")
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*more, *grid(["sfm"])]))
    command = ["plot", str(tmp_path), "-o", str(tmp_path / "f.svg")]
    assert main([*command, "--dataset", "digits", "--ipc", "1", "--methods", "sfm,full"]) == 0
    text = (tmp_path / "f.svg").read_text()
    assert ">sfm<" in text
    assert ">clpdd<" not in text
    assert main([*command, "--ipc", "7"]) == main([*command, "--dataset", "third"]) == 2


def test_ranks_are_drawn_with_their_critical_difference_where_there_are_blocks_enough(tmp_path):
    with pytest.raises(UserError, match=r"needs 5 blocks .* has 4 blocks and 3 methods"):
        figure(grid(), "ranks", tmp_path / "f.svg")
    records = [*grid(), *grid(dataset="other")]
    text = figure(records, "ranks", tmp_path / "f.svg").read_text()
    assert text.count(">CD 1.17<") == 2, "own and transfer"
    assert ">clpdd  1.00 <" in text
    assert "> 3.00  random<" in text
    with pytest.raises(UserError, match="no own accuracy under 'knn'; there are: ridge-probe"):
        figure(records, "ranks", tmp_path / "f.svg", protocol="knn")


def test_a_pdf_holds_its_fonts(tmp_path):
    written = figure(grid(), "pareto", tmp_path / "f.pdf").read_bytes()
    assert b"/FontFile2" in written
    assert b"/Type3" not in written


def test_the_command_draws_images_and_losses_of_a_run(tmp_path):
    run = run_folder(tmp_path / "run")
    for kind, name in (("gallery", "g.png"), ("curve", "c.png")):
        assert main(["plot", str(run), "--kind", kind, "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 5000
    assert main(["plot", str(run), "--kind", "gallery", "--methods", "unheard-of", "-o", str(tmp_path / "g.png")]) == 2


def test_a_set_of_several_backbones_has_a_point_of_its_own(tmp_path):
    several = [
        {**r, "method": "duet", "method_spec": "duet[also=x]", "params": {"also": "x"}}
        for r in grid(("clpdd",))
        if r["method"] == "clpdd"
    ]
    assert "duet, 2 backbones" in figure([*grid(), *several], "transfer", tmp_path / "f.svg").read_text()
    places = [{**r, "dataset": name} for name in ("digits", "other") for r in [*grid(), *several]]
    text = figure(places, "ranks", tmp_path / "f.svg").read_text()
    assert "duet, 2 backbones" in text
    assert "duet[also" not in text


def test_nothing_to_draw_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no set has a curve"):
        figure(grid(), "curve", tmp_path / "f.pdf")
    with pytest.raises(UserError, match=r"none of \.pdf"):
        figure(grid(), "pareto", tmp_path / "f.jpg")
    with pytest.raises(UserError, match="no own accuracy under 'knn'"):
        figure(grid(), "pareto", tmp_path / "f.pdf", protocol="knn")
