"""What comes from elsewhere does no harm where it is printed, and LaTeX compiles whatever stands in names."""

import re
import shutil
import subprocess

import pytest

from ddbench.benchmark.report import escape, render
from ddbench.benchmark.report.tables import tables

from ..fake_records import BACKBONES, grid, record

EVIL = "evil_%&#$~^{}\\|<>\"'`é ü ñ ç ß λ漢 – … \x1b[31m\n=cmd|' /C calc'!A1[x](http://e)<script>alert(1)</script>"


def test_no_control_character_reaches_a_terminal():
    records = [record(f"clpdd[note={EVIL}]"), record("lgm", top1=None, status="oom\x1b]0;title\x07")]
    text = render.text(tables(records))
    assert not [letter for letter in text if ord(letter) < 32 and letter != "\n"]
    assert escape.plain("a\x1b[2Jb\u202ec\r\nd") == "a [2Jb c d"


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1+1", "\t=1", " =1", "\n=cmd"])
def test_a_spreadsheet_runs_nothing(text):
    assert escape.csv_field(text).startswith("'")
    row = render.csv([record(reason=text, top1=-1.5)]).splitlines()[1]
    assert "-1.5" in row.split(",")
    assert not [field for field in row.split(",") if field.strip('"').lstrip().startswith(("=", "+", "@"))]


def test_markdown_holds_no_html_no_link_and_no_further_cell():
    text = render.markdown(tables([record(f"clpdd[note={EVIL}]")]))
    assert "<script>" not in text
    assert "](http" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| clpdd")]
    assert len([part for part in row.replace("\\|", "").split("|") if part.strip()]) == 2 + 4
    assert escape.markdown("mini_vit_mae") == "mini_vit_mae"


def test_every_special_character_is_escaped_for_latex():
    text = escape.latex(EVIL)
    rest = re.sub(r"\\[`'^~\"crv]\{[a-zA-Z]\}|\\[a-zA-Z]+(\{\})?|\\[{}_%&#$]|\$\\?[a-z±-]+\$", "", text)
    assert not set(rest) & set('\\{}_%&#$~^<>|"`'), rest
    assert text.count("{") == text.count("}") or "\\{" in text
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex: apt install texlive-latex-base")
def test_latex_compiles_as_it_is_and_stays_within_the_margins(tmp_path):
    methods = (
        f"clpdd[note={EVIL}]",
        "lgm[augment=none,init=centroid,steps=350,lr=0.01,grow_every=0,real=bank]",
        "lgm[augment=flip]",
    )
    long = (f"timm[model=vit_{EVIL},weights=a.safetensors]", "torchvision[model=squeezenet1_0,weights=data/b.safetensors]")
    records = grid(methods, (*BACKBONES, *long), seeds=(0, 1, 2))
    for metric in ("top1", "summary", "seconds", "memory"):
        tex = render.latex(tables(records, metric))
        head = r"\documentclass{article}\usepackage{booktabs,graphicx,textcomp}\usepackage[T1]{fontenc}\begin{document}"
        (tmp_path / f"{metric}.tex").write_text(f"{head}\n{tex}\\end{{document}}\n")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{metric}.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Missing character" not in done.stdout
        overfull = [line for line in done.stdout.splitlines() if line.startswith("Overfull \\hbox")]
        assert not overfull, overfull


def test_the_best_is_bold_and_the_second_underlined_where_there_are_intervals():
    several, one = grid(seeds=(0, 1, 2)), grid(seeds=(0,))
    tex = render.latex(tables(several, "summary"))
    bold = [line for line in tex.splitlines() if r"\textbf{" in line]
    assert [line.partition(" &")[0] for line in bold] == ["clpdd"], "not the full data, which has every image"
    assert [line.partition(" &")[0] for line in tex.splitlines() if r"\underline{" in line] == ["centroids"]
    assert "**" in render.markdown(tables(several, "summary")).split("\n", 1)[1]
    assert r"\textbf" not in render.latex(tables(one, "summary")), "nothing bold without an interval"
    assert "**6" not in render.markdown(tables(one, "summary"))
