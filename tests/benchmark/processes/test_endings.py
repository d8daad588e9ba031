"""Every way in which the process of a cell, or of a run, can end: a row with a reason, and nothing left running."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ddbench.benchmark.machine.signals import Interrupted, Stop
from ddbench.benchmark.processes import launcher
from ddbench.benchmark.processes.job import Event, Job
from ddbench.benchmark.processes.launcher import Host, launch
from ddbench.benchmark.processes.progress import Reporter
from ddbench.benchmark.processes.runner import run_plan
from ddbench.benchmark.records.records import load_records

pytestmark = pytest.mark.usefixtures("fake_process")


def rows(out):
    return [(r["status"], r["reason"]) for r in load_records([out])]


@pytest.mark.parametrize("how", ["daemon", "thread"])
def test_what_a_cell_leaves_running_does_not_hold_the_run(cell, tmp_path, how, gone):
    begin = time.monotonic()
    assert run_plan([cell(1, how), cell(2)], tmp_path).done == 4
    assert time.monotonic() - begin < 20
    if how == "daemon":
        assert gone(int((tmp_path / "child.pid").read_text()), 0)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("close", r"closed its events and went on, and was ended \(see logs/\w+\.log\)"),
        ("garbage", r"wrote something else than events"),
        ("flood", r"wrote more than its log may hold"),
    ],
)
def test_a_cell_that_breaks_the_rules_costs_one_evaluation(cell, tmp_path, monkeypatch, how, reason):
    monkeypatch.setattr(launcher, "_GRACE", 0.5)
    monkeypatch.setattr(launcher, "_LONGEST_LOG", 5_000)
    run_plan([cell(1, evaluations=[None, how, None])], tmp_path)
    (first, second, third) = sorted(load_records([tmp_path]), key=lambda r: r["eval_backbone"])
    assert [r["status"] for r in (first, second, third)] == ["ok", "failed", "ok"]
    assert re.search(reason, second["reason"])


def test_a_record_that_nobody_asked_for_is_not_stored(cell, tmp_path):
    assert run_plan([cell(1, "strange")], tmp_path).done == 2
    assert len(load_records([tmp_path])) == 2


def test_a_record_that_could_not_be_read_again_is_a_failure(cell, tmp_path):
    summary = run_plan([cell(1, "faulty")], tmp_path)
    assert (summary.done, summary.failed) == (1, 1)
    assert "the record of this evaluation" in summary.failures[0]["reason"]
    assert len(load_records([tmp_path])) == 2


def test_a_fork_server_that_dies_is_a_row_and_the_next_cell_runs(cell, tmp_path, monkeypatch):
    run_plan([cell(1, "kill server"), cell(2)], tmp_path)
    assert [r["status"] for r in load_records([tmp_path])] == ["oom", "oom", "ok", "ok"]
    monkeypatch.setenv("DIE_AT_IMPORT", str(int(signal.SIGKILL)))
    summary = run_plan([cell(3), cell(4)], tmp_path)
    assert summary.failed == 4
    assert "killed by SIGKILL" in summary.failures[0]["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are known on Linux alone")
def test_a_crash_under_a_limit_of_memory_is_named_so(cell, tmp_path):
    run_plan([cell(1, evaluations=["crash in little memory", None])], tmp_path)
    (status, reason), last = rows(tmp_path)
    assert (status, last) == ("oom", ("ok", None))
    assert "SIGSEGV with 4096 MiB of address space" in reason


def test_a_connection_that_is_reset_is_a_dead_server(cell, tmp_path):
    class Reset:
        def recv(self, count):
            raise ConnectionResetError

        def fileno(self):
            return reader

        def close(self): ...

    reader, writer = os.pipe()
    os.close(writer)  # readable at once
    host = Host({})
    host.kill()
    host._control = Reset()
    assert host.exit_code(1) == -signal.SIGKILL
    os.close(reader)


def drive(cells, out, **variables):
    """`run_plan` in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path\n"
        "from ddbench.benchmark.processes import launcher; from ddbench.benchmark.processes.runner import run_plan\n"
        "from ddbench.benchmark.suite.cell import Cell\n"
        "facts = json.load(sys.stdin); launcher.HOST, launcher.CELL = tuple(facts['host']), 'fake_cell'\n"
        "run_plan([Cell.from_json(c) for c in facts['cells']], Path(facts['out']))"
    )
    command = [sys.executable, "-P", "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **variables})
    facts = {"host": launcher.HOST, "cells": [c.to_json() for c in cells], "out": str(out)}
    process.stdin.write(json.dumps(facts).encode())
    process.stdin.close()
    return process


def noted(file, wait_until):
    assert wait_until(lambda: file.exists() and file.read_text(), 60)
    return int(file.read_text())


def test_a_stopped_cell_dies_with_its_killed_parent(cell, tmp_path, gone, wait_until):
    """One that never looks at its stdin again, as if it held the interpreter's lock."""
    with drive([cell(1, "stop")], tmp_path) as run:
        pid = noted(tmp_path / "child.pid", wait_until)
        assert not gone(pid, 0)
        run.kill()
    assert gone(pid, 5)


def test_a_daemon_of_a_cell_dies_with_the_killed_parent(cell, tmp_path, gone, wait_until):
    with drive([cell(1, "daemon", evaluations=["hang"])], tmp_path) as run:
        pid = noted(tmp_path / "child.pid", wait_until)
        run.kill()
    assert gone(pid, 5)


def test_a_fork_server_dies_with_its_killed_parent_while_it_imports(cell, tmp_path, gone, wait_until):
    with drive([cell(1)], tmp_path, NOTE_AND_WAIT_AT_IMPORT=str(tmp_path / "server.pid")) as run:
        pid = noted(tmp_path / "server.pid", wait_until)
        run.kill()
    assert gone(pid, 5)


class SignalAt(Reporter):
    """Sends this process signals, as a person does, when cell `index` has started something."""

    def __init__(self, numbers, file, wait_until):
        self.numbers, self.file, self.wait_until, self.warnings = numbers, file, wait_until, []

    def event(self, index, event):
        if event.kind == "evaluation" and self.numbers and self.wait_until(self.file.exists):
            os.kill(os.getpid(), self.numbers.pop(0))

    def warning(self, text):
        self.warnings.append(text)
        while self.numbers:
            os.kill(os.getpid(), self.numbers.pop(0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_at_once(cell, tmp_path, gone, wait_until, number):
    """The cell sleeps; with one signal alone it would be waited for."""
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    told = SignalAt([number, number], tmp_path / "child.pid", wait_until)
    begin = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        run_plan([cell(1), cell(2, "daemon", evaluations=["sleep on"]), cell(3)], tmp_path, progress=told)
    assert caught.value.number == number
    assert time.monotonic() - begin < 20
    assert told.warnings == ["stopping after the step in hand, with a checkpoint; Ctrl-C again ends at once"]
    assert [r["method_spec"] for r in load_records([tmp_path])] == ["m1", "m1"]
    assert gone(int((tmp_path / "child.pid").read_text()), 1)
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run_plan([cell(3)], tmp_path).done == 2


def test_a_cell_that_does_not_stop_when_asked_is_ended(cell, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_STOPPING", 0.5)
    stop, told = Stop(), []
    stop.asked.set()
    job = Job(cell(1, "hang"), tmp_path, "this", "cpu")
    with Host({}) as host:
        ended = launch(job, host=host, log=tmp_path / "log", timeout=None, tell=told.append, stop=stop)
    assert ended.why == "stopped"


def test_in_a_thread_signals_are_left_alone(cell, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run_plan([cell(1)], tmp_path).done))
    thread.start()
    thread.join()
    assert found == [2]


def test_events_and_jobs_come_out_as_they_went_in(cell):
    event = Event("step", step=3, steps=9, loss=0.5, steps_per_second=2.0, eta_seconds=3.0, peak=1)
    assert Event.parse(event.to_line().strip()) == event
    job = Job(cell(1), Path("/out"), "id", "cuda:1", threads=2, plugins=("a.py",), timeout=3.0)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize(
    "line", [b"", b"5", b"[]", b"garbage", b'{"kind": "other"}', b'{"kind": "step", "step": "3"}', b'{"kind": "step", "x": 1}',
             b'{"kind": "record", "record": []}', b"\xff\xfe", b'{"kind": "step"'],
)  # fmt: skip
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError, match="not the line of an event"):
        Event.parse(line)
