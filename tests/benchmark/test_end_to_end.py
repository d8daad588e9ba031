"""The real thing: plan, cell processes, records; slow to start (torch is imported each time), so as few as will do."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ddbench.benchmark.machine.signals import Interrupted, Stop
from ddbench.benchmark.processes.job import Event, Job
from ddbench.benchmark.processes.launcher import Host, launch
from ddbench.benchmark.processes.progress import Reporter
from ddbench.benchmark.processes.runner import run_plan
from ddbench.benchmark.records.records import load_records
from ddbench.benchmark.records.run_folder import set_folder
from ddbench.benchmark.suite.plan import plan
from ddbench.benchmark.suite.suite import suite
from ddbench.core.sets import DistilledSet


@pytest.fixture
def planned(fake_plugins):
    def planned(method, protocols=("fake_probe",), backbones=("fake_net",)):
        fields = {"methods": [method], "backbones": ["fake_net"], "eval_backbones": list(backbones), "datasets": ["fake_data"]}
        return plan(suite(**fields, protocols=list(protocols), controls=False), device="cpu")

    return planned


def test_two_processes_make_the_same_bits_and_record_their_threads(planned, fake_plugins, tmp_path):
    cells = planned("fake")
    found = []
    for name in ("one", "two"):
        run_plan(cells, tmp_path / name, threads=1, plugins=[fake_plugins])
        found += load_records([tmp_path / name])
    assert [r["status"] for r in found] == ["ok", "ok"]
    assert [(r["environment"]["threads"], r["environment"]["deterministic"]) for r in found] == [(1, "strict")] * 2
    assert found[0]["set_fingerprint"] == found[1]["set_fingerprint"]
    assert found[0]["top1_per_seed"] == found[1]["top1_per_seed"]
    one, two = (DistilledSet.load(set_folder(tmp_path / name, found[0])) for name in ("one", "two"))
    assert torch.equal(one.images, two.images)
    assert run_plan(cells, tmp_path / "one", plugins=[fake_plugins]).skipped == 1


def test_a_crash_in_native_code_costs_one_evaluation_and_the_set_is_kept(planned, fake_plugins, tmp_path):
    cells = planned("fake", ["fake_probe[fail=die]", "fake_probe"])
    summary = run_plan(cells, tmp_path, plugins=[fake_plugins])
    assert (summary.done, summary.failed) == (1, 1)
    by_status = {r["status"]: r for r in load_records([tmp_path])}
    assert by_status.keys() == {"ok", "oom"}
    assert by_status["ok"]["distill_reused"]
    assert by_status["oom"]["environment"]["torch_version"] == torch.__version__.partition("+")[0]


class InterruptAt(Reporter):
    """A signal to this process, as by Ctrl-C, once a step of the cell is done."""

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number, self.stopped = step, number, None

    def event(self, index, event):
        if event.kind == "step" and event.step >= self.step and self.number:
            os.kill(os.getpid(), self.number)
            self.number = None
        elif event.kind == "stopped":
            self.stopped = event.step


def test_an_interrupted_cell_goes_on_after_the_step_in_hand_to_the_same_bits(planned, fake_plugins, tmp_path):
    """Long before the first checkpoint is due."""
    cells, settings = planned("lgm[steps=300,copies=1,grow_every=50]"), {"threads": 1, "plugins": [fake_plugins]}
    told = InterruptAt(100)
    with pytest.raises(Interrupted):
        run_plan(cells, tmp_path / "cut", progress=told, **settings)
    assert not (tmp_path / "cut" / "records.jsonl").exists()
    for name in ("cut", "straight"):
        run_plan(cells, tmp_path / name, **settings)
    (resumed,), (straight,) = (load_records([tmp_path / name]) for name in ("cut", "straight"))
    assert straight["resumed_at"] == []
    assert resumed["checkpoint_note"] is None
    assert 100 <= told.stopped == resumed["resumed_at"][0] < 300
    assert resumed["set_fingerprint"] == straight["set_fingerprint"]
    assert resumed["steps"] == straight["steps"] == 300
    assert not list((tmp_path / "cut" / "checkpoints").iterdir())


def test_a_killed_cell_goes_on_from_its_last_checkpoint_to_the_same_bits(planned, fake_plugins, tmp_path):
    cells, settings = planned("lgm[steps=300,copies=1,grow_every=50]"), {"threads": 1, "plugins": [fake_plugins]}

    class KillAt(InterruptAt):
        def event(self, index, event):
            if (
                event.kind == "step"
                and event.step >= self.step
                and list((tmp_path / "cut" / "checkpoints").rglob("*.safetensors"))
            ):
                raise RuntimeError("the cell process gets SIGKILL")

    with pytest.raises(RuntimeError, match="SIGKILL"):
        run_plan(cells, tmp_path / "cut", progress=KillAt(50), checkpoint_every=0.1, **settings)
    for name in ("cut", "straight"):
        run_plan(cells, tmp_path / name, **settings)
    (resumed,), (straight,) = (load_records([tmp_path / name]) for name in ("cut", "straight"))
    assert 0 < resumed["resumed_at"][0] < 300
    assert resumed["set_fingerprint"] == straight["set_fingerprint"]


def test_a_method_without_checkpoints_is_interrupted_at_once(planned, fake_plugins, tmp_path):
    begin = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        run_plan(
            planned("fake[steps=1000,wait=0.2]"), tmp_path, plugins=[fake_plugins], progress=InterruptAt(2, signal.SIGTERM)
        )
    assert caught.value.number == signal.SIGTERM
    assert time.monotonic() - begin < 60


def test_a_process_that_a_method_forks_is_no_cell(planned, fake_plugins, tmp_path):
    run_plan(planned("fake[fail=fork]"), tmp_path, plugins=[fake_plugins])
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1


def test_a_method_that_never_ends_is_a_timeout(planned, fake_plugins, tmp_path):
    summary = run_plan(planned("fake[fail=loop]"), tmp_path, timeout=1, plugins=[fake_plugins])
    assert [r["status"] for r in summary.failures] == ["timeout"]


def test_a_cell_process_ends_with_its_parent(planned, fake_plugins, tmp_path):
    """A killed `ddbench run` closes the pipe that the cell process watches."""
    job = Job(planned("fake[fail=loop]")[0], tmp_path, "this", "cpu", threads=1, plugins=(str(fake_plugins),))
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-c", f"from ddbench.benchmark.cell import main; main.main({writer})"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[writer])
    os.close(writer)
    try:
        process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
        process.stdin.flush()
        with os.fdopen(reader, "rb") as events:
            next(line for line in events if Event.parse(line).name == "distill")
        process.stdin.close()
        assert process.wait(timeout=10) == 1
    finally:
        process.kill()


def test_a_job_that_is_not_wanted_any_more_is_not_waited_for(planned, tmp_path):
    stop = Stop()
    stop.now()
    job = Job(planned("fake")[0], tmp_path, "this", "cpu")
    with Host({}) as host:
        ended = launch(job, host=host, log=tmp_path / "log", timeout=None, tell=lambda event: None, stop=stop)
    assert ended.why == "stopped"
