"""A newcomer's first hour: the commands and the Python of the docs, as they stand there, at reduced size."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddbench.benchmark.cli import main
from ddbench.core.registries import BACKBONES, DATASETS, METHODS, PROTOCOLS

from .conftest import ROOT

# what makes a command take seconds, or stands for the reader's own
SMALLER = [
    (r"-m clpdd\b", "-m 'clpdd[steps=2]'"),
    (r"-m my-method\b", "-m 'my-method[steps=2]'"),
    (r"DIR,size=64", "photos,size=16"),
    (r"timm\[model=resnet18\]", "timm[model=resnet10t,pretrained=false,input_size=32]"),
    (r"(ddbench run .*)", r"\1 --no-controls"),
    (r"(-d 'folder.*-b .*?)( --dry-run)?( --no-controls)$", r"\1 --eval-backbone mini_vit_mae --protocol knn\2\3"),
]
LEFT_OUT = (
    "ddbench doctor",  # what it says depends on the machine
    "ddbench run -m my-method -m clpdd --plugin my_method.py",  # the start page runs it, on one backbone
)


def commands(page: str) -> list[str]:
    """The `ddbench` lines of a page that stand apart, without their comments."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    found = [line.partition("  #")[0].partition(" # ")[0].strip() for line in lines if line.startswith("    ddbench ")]
    return [command for command in found if command not in LEFT_OUT]


def reduced(command: str) -> str:
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return command


def run(command: str, capsys) -> None:
    """One command line in this process; `> FILE` takes its output."""
    line, _, file = command.partition(" > ")
    code = main(shlex.split(reduced(line))[1:])
    printed = capsys.readouterr()
    assert code == 0, f"{command}: {printed.out}{printed.err}"
    if file:
        Path(file).write_text(printed.out)


def photos(folder) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, 128, (20, 24, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{index}.jpg")


@pytest.fixture
def own(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))


def test_the_commands_of_the_pages_run_in_their_order(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_CACHE", str(tmp_path / "cache"))
    photos(tmp_path / "photos")
    torch.save((torch.rand(10, 3, 32, 32), torch.arange(10)), tmp_path / "data.pth")
    first, second = commands("start.md"), commands("plugins.md")
    assert len(first) >= 14
    assert len(second) >= 9
    for command in dict.fromkeys([*first, *second]):
        run(command, capsys)
    for made in ("report.html", "my_method.py", "my_protocol.py", "table.tex", "transfer.pdf", "gallery.png"):
        assert (tmp_path / made).stat().st_size > 500, made


def test_the_python_page_runs_as_it_is(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    assert len(blocks) >= 5
    done = subprocess.run(
        [sys.executable, "-P", "-c", "".join(blocks)], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    assert "clpdd: " in done.stdout
    assert (tmp_path / "clpdd.png").is_file()


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "start" / "index.html").is_file()
