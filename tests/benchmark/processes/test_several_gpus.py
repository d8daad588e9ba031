"""`ddbench run` with two processes per cell: one set of records, those of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddbench.benchmark.processes import several_gpus
from ddbench.benchmark.processes.job import Job
from ddbench.benchmark.processes.several_gpus import check_devices, help_distil
from ddbench.benchmark.records.records import load_records
from ddbench.benchmark.records.run_folder import set_folder
from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.core.params import resolved
from ddbench.core.sets import DistilledSet

ONE = "mini_resnet_dino"
GRID = ["-m", "clpdd[steps=5,copies=1]", "-b", ONE, "--eval-backbone", ONE, "--protocol", "ridge-probe", "--no-controls"]


def ddbench(out, *command, grid=GRID, options=()):
    machine = ["--device", "cpu", "--threads", "1"]
    everything = [sys.executable, "-P", *command, "run", *grid, *machine, "--out", str(out), *options]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}  # -P for what torchrun starts
    return subprocess.run(everything, env=variables, capture_output=True, text=True, timeout=1800)


def only_record(out):
    (record,) = load_records([out])
    return record


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one")
    done = ddbench(out, "-m", "ddbench")
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["-m", "ddbench"], ["--nproc-per-node", "2"]),
        (["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ddbench"], []),
    ],
    ids=["nproc-per-node", "torchrun"],
)
def test_two_processes_record_the_set_of_one(command, options, one, tmp_path):
    done = ddbench(tmp_path, *command, options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    found, expected = only_record(tmp_path), only_record(one)
    assert found["status"] == "ok"
    assert (found["config_hash"], found["steps"]) == (expected["config_hash"], expected["steps"])
    assert (expected["environment"]["processes"], found["environment"]["processes"]) == (1, 2)
    assert expected["checkpoint_note"] is None
    assert found["checkpoint_note"] == "no checkpoint: several processes distil this cell"
    images, reference = (DistilledSet.load(set_folder(out, r)).images for out, r in
                         ((tmp_path, found), (one, expected)))  # fmt: skip
    # One step's gradient agrees to 1e-6 (tests/core/test_parallel.py); Adam's first steps have the size of the learning rate
    # whatever the gradient's is, so that the rounding of pixels with hardly any gradient shows.
    assert (images - reference).norm() <= 5e-4 * reference.norm()


def test_a_process_that_fails_ends_the_cell_with_a_reason(tmp_path):
    """The plugin raises in the second process alone; the first would wait for it for hours."""
    plugin = tmp_path / "lonely.py"
    plugin.write_text(PLUGIN)
    grid = ["-m", "lonely", "--plugin", str(plugin), *GRID[2:]]
    done = ddbench(tmp_path / "out", "-m", "ddbench", grid=grid, options=["--nproc-per-node", "2"])
    assert done.returncode == 1
    record = only_record(tmp_path / "out")
    assert record["status"] == "failed"
    assert "the second process gives up" in (tmp_path / "out" / "logs" / f"{record['cell_hash']}.log").read_text()


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    check_devices("cpu", 4)
    check_devices("cuda", 2)
    with pytest.raises(UserError, match="--nproc-per-node 3 needs 3 GPUs and there are 2"):
        check_devices("cuda", 3)


def test_bad_input_is_one_line(tmp_path):
    done = ddbench(tmp_path, "-m", "ddbench", grid=["-m", "clpd"], options=["--nproc-per-node", "2"])
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, json.dumps(done.stderr)


PLUGIN = '''"""Fails in the second process."""

from dataclasses import dataclass

import torch

from ddbench.core.method import Method
from ddbench.core.parallel import rank, wait_for_all
from ddbench.core.sets import DistilledSet
from ddbench.methods import register


@register("lonely")
@dataclass(frozen=True)
class Lonely(Method):
    """Waits for a process that never comes."""

    def distill(self, backbone, data, ipc, *, run):
        if rank() == 1:
            raise RuntimeError("the second process gives up")
        wait_for_all()
'''


def test_a_follower_with_other_code_refuses(cell_of, monkeypatch):
    """It would add the gradients of another method to those of the first process."""
    monkeypatch.setattr(several_gpus, "make_deterministic", lambda device: None)  # of the whole process
    data = DATASETS.create("digits").load()
    method = METHODS.create("centroids")
    facts = {"method": "centroids", "method_spec": "centroids", "params": resolved(method), "method_code": "c0de" * 4}
    cell = cell_of(**facts, dataset="digits", dataset_name="digits", dataset_fingerprint=data.fingerprint)
    with pytest.raises(SystemExit, match="the code of method 'centroids' is another here"):
        help_distil(Job(cell, Path(), "run", "cpu"), 1)
