"""The Makefile's targets explain themselves, and `bench` passes its variables on."""

import shutil
import subprocess

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> str:
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


def test_plain_make_lists_every_target():
    listed = make("--no-print-directory")
    for target in ("help", "install", "bench", "test", "regress", "perf", "perf-gpu", "lint", "check", "clean"):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], "ddbench run -m 'clpdd' --ipc 1"),
        (["METHOD=random", "IPC=5", "BACKBONE=x", "ARGS=--seed 1"], "-m 'random' --ipc 5 -b 'x' --seed 1"),
        (["SUITE=suites/regress.yaml"], "ddbench run --suite 'suites/regress.yaml'"),
    ],
)
def test_bench_passes_its_variables(variables, expected):
    assert expected in " ".join(make("-n", "bench", *variables).split())


def test_perf_gpu_needs_nothing_installed():
    """The links that it puts on the path are the whole package."""
    make("build/tree")
    linked = ROOT / "build" / "tree" / "ddbench"
    assert (linked / "__init__.py").resolve() == ROOT / "ddbench" / "__init__.py"
    for folder in ("core", "methods", "evaluation", "backbones", "datasets", "benchmark"):
        assert (linked / folder).resolve() == ROOT / folder
    assert "--cases gpu --device cuda --out x" in make("-n", "perf-gpu", "ARGS=--out x")
