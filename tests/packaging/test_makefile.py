"""The Makefile's targets explain themselves, and `bench` passes its variables on."""

import importlib.util
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
        "hostile",
        "perf",
        "perf-gpu",
        "pretrain",
        "lint",
        "check",
        "site",
        "clean",
    ):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], "ddbench run -m 'clpdd' -m centroids --ipc 1"),
        (["METHOD=random", "IPC=5", "BACKBONE=x", "ARGS=--seed 1"], "-m 'random' -m centroids --ipc 5 -b 'x' --seed 1"),
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


def installer():
    spec = importlib.util.spec_from_file_location("ddbench_install", ROOT / ".ci" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_installing_names_what_torch_costs_and_the_build_without_a_gpu():
    install = installer()
    assert install.missing_torch(["torch>=2.6", "timm>=1", "torchvision>=0.21", "torchmetrics"]) == [
        "torch>=2.6",
        "torchvision>=0.21",
    ]
    assert "make install TORCH=cpu" in install.size_note(gpu=False)
    assert "TORCH=cpu" not in install.size_note(gpu=True)
    assert "TORCH='cpu'" in make("-n", "-B", "install", "TORCH=cpu")


@pytest.mark.parametrize(("index", "expected"), [("", "download.pytorch.org/whl/cpu"), ("file:///wheels", "file:///wheels")])
def test_torch_for_the_cpu_comes_from_its_own_index(monkeypatch, index, expected):
    install, calls = installer(), []
    monkeypatch.setenv("TORCH", "cpu")
    monkeypatch.setenv("TORCH_INDEX", index)
    monkeypatch.setattr("sys.argv", ["install.py"])
    monkeypatch.setattr(install, "choose", lambda: "python")
    monkeypatch.setattr(install, "facts", lambda python: {"pip": True, "setuptools": True})
    monkeypatch.setattr(install, "run", lambda *a, capture=False: "torch>=2.6\ntorchvision>=0.21\ntimm>=1\n")
    monkeypatch.setattr(install, "pip", lambda python, *arguments, constraints="": calls.append(arguments))
    install.main()
    assert calls[0][0] == "--index-url"
    assert expected in calls[0][1]
    assert calls[0][2:] == ("torch>=2.6", "torchvision>=0.21")
    assert calls[1] == ("timm>=1",)
