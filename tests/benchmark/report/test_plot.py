"""Figures for papers: every kind in every format, fonts embedded as letters, one line where there is nothing to draw."""

import pytest

from ddbench.benchmark.cli import main
from ddbench.benchmark.report.page import Curve
from ddbench.benchmark.report.plot import COLUMN, figure
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


def test_a_pdf_holds_its_fonts(tmp_path):
    written = figure(grid(), "pareto", tmp_path / "f.pdf").read_bytes()
    assert b"/FontFile2" in written
    assert b"/Type3" not in written


def test_the_command_draws_images_and_losses_of_a_run(tmp_path):
    run = run_folder(tmp_path / "run")
    for kind, name in (("gallery", "g.png"), ("curve", "c.png")):
        assert main(["plot", str(run), "--kind", kind, "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 5000


def test_nothing_to_draw_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no set has a curve"):
        figure(grid(), "curve", tmp_path / "f.pdf")
    with pytest.raises(UserError, match=r"none of \.pdf"):
        figure(grid(), "pareto", tmp_path / "f.jpg")
    with pytest.raises(UserError, match="no own accuracy under 'knn'"):
        figure(grid(), "pareto", tmp_path / "f.pdf", protocol="knn")
