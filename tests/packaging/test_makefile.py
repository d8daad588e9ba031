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
    for target in (
        "help",
        "install",
        "bench",
        "paper",
        "test",
        "regress",
        "faults",
        "perf",
        "perf-gpu",
        "pretrain",
        "lint",
        "check",
        "clean",
    ):
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


def test_pretrain_passes_its_variables():
    printed = " ".join(make("-n", "pretrain", "NAME=mini_vit_mae", "DATA=arrays[path=a] arrays[path=b]", "OUT=zoo").split())
    assert "pretrain 'mini_vit_mae' -d 'arrays[path=a]' 'arrays[path=b]' --out 'zoo'" in printed


def test_perf_gpu_needs_nothing_installed():
    """The links that it puts on the path are the whole package."""
    make("build/tree")
    linked = ROOT / "build" / "tree" / "ddbench"
    assert (linked / "__init__.py").resolve() == ROOT / "ddbench" / "__init__.py"
    for folder in ("core", "methods", "evaluation", "backbones", "datasets", "benchmark"):
        assert (linked / folder).resolve() == ROOT / folder
    assert "--cases gpu --device cuda --out x" in make("-n", "perf-gpu", "ARGS=--out x")


def test_paper_runs_every_suite_of_a_table_and_passes_its_arguments():
    printed = " ".join(make("-n", "paper", "TABLE=lgm-1", "ARGS=--dry-run").split())
    suites = " ".join(f"--suite suites/lgm-1-{name}.yaml" for name in ("imagenet100", "imagenet1k", "random"))
    assert f"ddbench run {suites} --dry-run" in printed
    assert make("-n", "paper", "TABLE=mkdt").count("--suite suites/mkdt-") == 3


def test_paper_names_the_tables_that_there_are():
    asked = subprocess.run(["make", "-n", "-C", str(ROOT), "paper", "TABLE=lgm-9"], capture_output=True, text=True)
    assert asked.returncode != 0
    assert "no suites/lgm-9.yaml" in asked.stderr
    assert "lgm-3" in asked.stderr
