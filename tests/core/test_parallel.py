"""Several processes give the result of one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddbench.core.parallel import _shard, member

WORKER = Path(__file__).with_name("parallel_worker.py")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("parallel_worker", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    return worker.results(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two gloo processes found."""
    folder = tmp_path_factory.mktemp("two")
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-P", WORKER, str(rank), "2", folder], env=variables) for rank in range(2)]
    assert [process.wait(timeout=1800) for process in processes] == [0, 0]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


# Relative to the norm; the worker's learning rate is small, because Adam magnifies rounding where gradients are near zero.
TOLERANCES = {"bank": 1e-6, "entry": 0, "gradient": 1e-6, "lgm live": 1e-6, "lgm bank": 1e-6, "clpdd": 1e-6}


@pytest.mark.parametrize(("name", "tolerance"), TOLERANCES.items())
def test_two_processes_give_the_result_of_one(name, tolerance, one, two):
    for found in two:
        assert (found[name] - one[name]).norm() <= tolerance * one[name].norm()
        if f"{name} losses" in one:
            assert torch.allclose(found[f"{name} losses"], one[f"{name} losses"], rtol=1e-5, atol=1e-6)


def test_all_processes_hold_the_same_images(two):
    for name, images in two[0].items():
        assert torch.equal(images, two[1][name])


@pytest.mark.parametrize(("n", "world"), [(10, 1), (10, 3), (2, 3), (0, 2)])
def test_shards_are_all_rows_once_and_even(n, world):
    parts = [range(n)[_shard(n, rank, world)] for rank in range(world)]
    assert [row for part in parts for row in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_without_a_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert member() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert member() == (2, 4)
