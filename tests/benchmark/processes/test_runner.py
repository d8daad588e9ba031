"""The runner: rows for everything that can happen to a process, nothing lost, nothing done twice, nothing left running."""

import dataclasses
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddbench.benchmark.machine.in_use import present
from ddbench.benchmark.processes.launcher import slots
from ddbench.benchmark.processes.progress import Reporter
from ddbench.benchmark.processes.runner import run_plan
from ddbench.benchmark.records import records
from ddbench.benchmark.records.records import FILE, append_record, load_records
from ddbench.benchmark.records.run_folder import LOCK, locked
from ddbench.core.errors import UserError

pytestmark = pytest.mark.usefixtures("fake_process")


def statuses(out):
    return [(r["method_spec"], r["status"]) for r in load_records([out])]


def test_finished_evaluations_are_stored_and_not_run_again(cell, tmp_path):
    cells = [cell(1), cell(2)]
    first = run_plan(cells[:1], tmp_path)
    second = run_plan(cells, tmp_path)
    third = run_plan(cells, tmp_path)
    assert [(s.done, s.skipped, s.failed) for s in (first, second, third)] == [(2, 0, 0), (2, 2, 0), (0, 4, 0)]
    assert statuses(tmp_path) == [("m1", "ok")] * 2 + [("m2", "ok")] * 2
    assert (tmp_path / "logs" / f"{cells[0].cell_hash}.log").read_text().startswith("log of m1")


def test_new_evaluations_of_a_finished_cell_are_run_alone(cell, tmp_path):
    run_plan([cell(1, evaluations=[None])], tmp_path)
    summary = run_plan([cell(1, evaluations=[None, None, None])], tmp_path)
    assert (summary.done, summary.skipped) == (2, 1)


def test_overwrite_runs_everything_again(cell, tmp_path):
    run_plan([cell(1)], tmp_path)
    assert run_plan([cell(1)], tmp_path, overwrite=True).done == 2
    assert len((tmp_path / FILE).read_text().splitlines()) == 4
    assert len(load_records([tmp_path])) == 2


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("kill", "oom", "killed by SIGKILL"),
        ("exit", "failed", r"exit code 3 .*\(see logs/\w+\.log\)"),
        ("hang", "timeout", r"time limit of 0\.5 s"),
    ],
)
def test_a_process_that_fails_is_a_row_per_evaluation_and_the_next_cell_runs(cell, tmp_path, how, status, reason):
    summary = run_plan([cell(1, how), cell(2)], tmp_path, timeout=0.5 if how == "hang" else 30)
    assert statuses(tmp_path)[:2] == [("m1", status)] * 2
    assert (summary.failed, len(summary.failures)) == (2, 2)
    for record in summary.failures:
        assert re.search(reason, record["reason"])
        assert record["environment"] == {"cpu": "fake"}
        assert record["started"] <= record["finished"]
    if how != "hang":
        assert statuses(tmp_path)[2:] == [("m2", "ok")] * 2


def test_failures_are_tried_again_by_the_next_run(cell, tmp_path):
    run_plan([cell(1, "kill")], tmp_path)
    assert run_plan([cell(1, "kill")], tmp_path).failed == 2


def test_a_crash_in_one_evaluation_costs_that_evaluation_only(cell, tmp_path):
    summary = run_plan([cell(1, evaluations=[None, "kill", None, "exit", None])], tmp_path)
    assert (summary.done, summary.failed) == (3, 2)
    assert sorted((r["eval_backbone"], r["status"]) for r in load_records([tmp_path])) == [
        ("net0", "ok"), ("net1", "oom"), ("net2", "ok"), ("net3", "failed"), ("net4", "ok"),
    ]  # fmt: skip


def test_a_timeout_keeps_what_was_finished(cell, tmp_path):
    summary = run_plan([cell(1, evaluations=[None, "hang", None])], tmp_path, timeout=1)
    assert (summary.done, summary.failed) == (1, 2)
    assert [r["status"] for r in load_records([tmp_path])] == ["ok", "timeout", "timeout"]


def test_a_timeout_kills_the_whole_process_group(cell, tmp_path, gone):
    run_plan([cell(1, "child")], tmp_path, timeout=1.5)
    assert gone(int((tmp_path / "child.pid").read_text()))


class InterruptAt(Reporter):
    """Raises as soon as cell `index` has started a process of its own."""

    def __init__(self, index, out, wait_until):
        self.index, self.out, self.wait_until = index, out, wait_until

    def cell_started(self, index, cell, device):
        if index == self.index:
            assert self.wait_until((self.out / "child.pid").exists)
            raise KeyboardInterrupt


def test_an_exception_kills_the_child_and_keeps_what_is_done(cell, tmp_path, gone, wait_until):
    cells = [cell(1), cell(2, "child"), cell(3)]
    with pytest.raises(KeyboardInterrupt):
        run_plan(cells, tmp_path, progress=InterruptAt(2, tmp_path, wait_until))
    assert statuses(tmp_path) == [("m1", "ok")] * 2
    assert gone(int((tmp_path / "child.pid").read_text()))
    assert run_plan([cells[0], cells[2]], tmp_path).skipped == 2  # the folder is free again, and the run goes on


def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing(cell, tmp_path, monkeypatch):
    cells = [cell(1), cell(2)]
    run_plan(cells[:1], tmp_path)
    with monkeypatch.context() as patch:
        write = os.write

        def full(descriptor, data):
            if b'"schema"' in data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(descriptor, data)

        patch.setattr(records.os, "write", full)
        with pytest.raises(UserError, match="disk is full"):
            run_plan(cells, tmp_path)
    summary = run_plan(cells, tmp_path)
    assert (summary.done, summary.skipped) == (2, 2)


def test_a_disk_too_full_for_a_set_ends_the_run_with_one_line(cell, tmp_path):
    with pytest.raises(UserError, match="the disk is full while writing sets/x; free some space, then rerun to resume"):
        run_plan([cell(1), cell(2, "full"), cell(3)], tmp_path)
    assert statuses(tmp_path) == [("m1", "ok")] * 2


class Warnings(Reporter):
    def __init__(self):
        self.texts = []

    def warning(self, text):
        self.texts.append(text)


def test_another_run_on_the_device_is_warned_of(cell, tmp_path):
    quiet, told = Warnings(), Warnings()
    run_plan([cell(1)], tmp_path, progress=quiet)
    with present("other", [""]):
        run_plan([cell(2)], tmp_path, progress=told)
    assert quiet.texts == []
    assert told.texts == ["another run of ddbench uses the same device; the seconds of both will be too long"]


def test_unsupported_cells_are_recorded_without_a_process_and_not_tried_again(cell, tmp_path):
    picky = dataclasses.replace(cell(1, "kill"), unsupported="makes\nno sense")
    summary = run_plan([picky], tmp_path)
    assert (summary.unsupported, summary.failed) == (2, 0)
    assert {r["reason"] for r in load_records([tmp_path])} == {"makes no sense"}
    assert not list((tmp_path / "logs").iterdir())
    assert run_plan([picky], tmp_path).skipped == 2


def test_an_out_that_cannot_be_written_is_refused_before_anything_runs(cell, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below", Path("/proc/ddbench")):
        with pytest.raises(UserError, match=r"cannot write to .*--out"):
            run_plan([cell(1)], out)
    assert file.read_text() == "mine"


def test_records_that_cannot_be_read_are_refused_before_anything_runs(cell, tmp_path):
    append_record(tmp_path, {"schema": 99, "config_hash": "x", "status": "ok"})
    with pytest.raises(UserError, match="schema 99"):
        run_plan([cell(1)], tmp_path)


def test_two_runs_do_not_share_a_folder(cell, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=f"in use by another run .process {os.getpid()}"):
        run_plan([cell(1)], tmp_path)


def test_a_lock_that_is_a_folder_and_a_name_with_a_nul_are_refused_in_one_line(cell, tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match=r"cannot write .*\.lock: Is a directory; remove it"):
        run_plan([cell(1)], tmp_path)
    for name in ("a\0b", "x" * 300):
        with pytest.raises(UserError, match=r"cannot write to .*--out"):
            run_plan([cell(1)], tmp_path / name)


def test_what_a_killed_run_left_half_written_goes_with_the_next(cell, tmp_path):
    partial = tmp_path / "checkpoints" / "aa" / ".loop0.safetensors.x1.partial"
    left = [tmp_path / "sets" / ".aa.4711" / "set.safetensors", partial / ".lock"]
    kept = [tmp_path / "sets" / ".gitkeep", tmp_path / "checkpoints" / "aa" / "loop0.safetensors"]
    for file in (*left, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 1000)
    with locked(tmp_path):
        pass
    assert not left[0].parent.exists()
    assert [file.exists() for file in (left[1], *kept)] == [False, True, True]


@pytest.mark.parametrize("settings", [{"timeout": 1e-9}, {"timeout": float("nan")}, {"checkpoint_every": float("nan")},
                                      {"checkpoint_every": -1.0}, {"timeout": -5.0}])  # fmt: skip
def test_times_that_make_no_sense_are_refused(cell, tmp_path, settings):
    with pytest.raises(UserError, match="give"):
        run_plan([cell(1)], tmp_path, **settings)


def test_the_lock_of_a_dead_process_is_taken_over(cell, tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    (tmp_path / LOCK).write_text(f"{dead.pid}\n")
    assert run_plan([cell(1)], tmp_path).done == 2


def test_the_device_is_that_of_the_plan(cell, tmp_path):
    with pytest.raises(UserError, match="planned for cpu"):
        run_plan([cell(1)], tmp_path, device="cuda")


def test_one_slot_on_the_cpu_and_one_per_gpu(monkeypatch):
    (cpu,) = slots("cpu")
    assert (cpu.label, cpu.environment["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [(s.label, s.environment["CUDA_VISIBLE_DEVICES"]) for s in slots("cuda")] == [("cuda:0", "2"), ("cuda:1", "5")]
    assert slots("cuda")[0].environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert [s.label for s in slots("cuda")] == ["cuda"]


def test_several_gpus_work_at_once_one_cell_each(cell_of, evaluation_of, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    cells = [cell_of([evaluation_of("net")], params={"n": n}, device="cuda", method_spec=f"m{n}") for n in range(4)]
    summary = run_plan(cells, tmp_path)
    assert summary.done == 4
    assert {r["device"] for r in load_records([tmp_path])} == {"cuda:0", "cuda:1"}


def test_a_bug_in_the_harness_is_raised_not_swallowed(cell, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("bug")

    monkeypatch.setattr("ddbench.benchmark.processes.attempts.launch", broken)
    with pytest.raises(RuntimeError, match="bug"):
        run_plan([cell(1)], tmp_path)
