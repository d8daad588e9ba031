"""What does not compute waits for no torch: such commands answer at once, in a fifth of the memory."""

import subprocess
import sys

import pytest

from .conftest import ROOT

PROGRAM = """
import sys
sys.modules["torch"] = None  # an import of it fails
from ddbench.benchmark.cli import main
sys.exit(main(sys.argv[1:]))
"""
BUNDLE = min(ROOT.glob("results/reference/*/*.json.gz"), key=lambda file: file.stat().st_size)


def answer(*argv: str, cwd) -> tuple[int, str]:
    """Exit code and output of `ddbench ARGV` in an interpreter that cannot import torch."""
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM, *argv], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["list"], "protocols  alignment "),
        (["list", "methods"], "clpdd "),
        (["list", "backbones", "*dino*"], "dinov2_vitb14 "),
        (["list", "datasets", "-v"], "train_limit = none   (int >= 1 | none)"),
        (["list", "protocols", "linear-probe"], "lr = 0.01   (float > 0)"),
        (["list", "backbones", "--json"], '"clip_vitb16"'),
        (["--help"], "COMMAND"),
    ],
)
def test_listing_imports_no_torch(argv, words, tmp_path):
    code, text = answer(*argv, cwd=tmp_path)
    assert code == 0, text
    assert words in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "-m", "clpd"], "did you mean 'clpdd'"),
        (["run", "-m", "clpdd[tau=-1]"], "tau='-1' is not valid"),
        (["run", "-m", "clpdd", "-b", "mini_vit"], "unknown backbone"),
        (["run", "-m", "clpdd", "-d", "folder[path=nowhere]"], "nowhere does not exist"),
        (["run", "-m", "clpdd", "-d", "folder[path=one,two]"], 'a value with commas as key="a, b"'),
        (["run", "-m", "clpdd", "-d", 'folder[path="one,two]"]'], "one,two] does not exist"),
        (["run", "--suite", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "-m", "clpdd", "--dry-run", "--out", "afile"], "cannot write to"),
        (["run", "-m", "clpdd", "--out", "afile/run"], "cannot write to"),
        (["run", "-m", "clpdd", "--on", "h1000"], "--on"),
        (["run"], "-m"),
        (["table", "nowhere"], "no records in nowhere"),
        (["report", "nowhere"], "no records in nowhere"),
        (["plot", "nowhere", "-o", "x.pdf"], "no records in nowhere"),
        (["compare", "nowhere", "nowhere"], "no records in nowhere"),
        (["export", "nowhere", "--out", "x.json"], "no records in nowhere"),
        (["merge", "nowhere.json", "--into", "here"], "cannot read nowhere.json"),
        (["show", "nowhere"], "give results/runs/NAME"),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["align", "-b", "nix"], "unknown backbone 'nix'"),
        (["check", "nix"], "no plugin of any kind"),
        (["data", "check", "nix"], "unknown dataset 'nix'"),
    ],
)
def test_refusals_import_no_torch(argv, words, tmp_path):
    (tmp_path / "afile").write_text("")
    code, text = answer(*argv, cwd=tmp_path)
    assert code == 2, text
    assert words in text
    assert len(text.splitlines()) == 1, text


def test_merging_and_tables_import_no_torch(tmp_path):
    code, text = answer("merge", str(BUNDLE), "--into", "run", cwd=tmp_path)
    assert code == 0, text
    of_run, of_bundle = answer("table", "run", cwd=tmp_path), answer("table", str(BUNDLE), cwd=tmp_path)
    assert of_run == of_bundle
    assert of_run[0] == 0, of_run[1]
    assert "Accuracy" in of_run[1]
