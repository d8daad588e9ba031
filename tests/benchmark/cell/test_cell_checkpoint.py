"""Checkpoints on disk: kept at intervals, used by the code that made them, and never the reason for a crash."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddbench.benchmark.cell import cell_checkpoint
from ddbench.benchmark.cell.cell_checkpoint import CellCheckpoint, code_digest
from ddbench.benchmark.machine import measure
from ddbench.benchmark.machine.measure import Meter, StepMeter

MADE_BY = {"configuration": "c", "code": "d", "number of threads": "1"}
STREAMS = ["generator.0.views"]
STATE = {"images.signal": torch.arange(4.0), STREAMS[0]: torch.Generator().get_state()}
PROCESS = Path(__file__).with_name("resume_process.py")


@pytest.fixture
def time(monkeypatch):
    """A clock that stands still but for `time[0] += seconds`."""
    now = [0.0]
    for module in (cell_checkpoint, measure):
        monkeypatch.setattr(module, "clock", lambda: now[0])
    return now


@pytest.fixture
def opened(tmp_path):
    """A checkpoint of one folder, as a new process opens it."""

    def opened(every=10.0, **others):
        steps = StepMeter(Meter(torch.device("cpu")))
        return CellCheckpoint(tmp_path / "cell", {**MADE_BY, **others}, steps, every)

    return opened


def saved(place, step=3):
    place.load(STREAMS)
    with place.steps.meter.phase("distill"):
        place.save(step, STATE)


def test_what_was_saved_is_loaded_with_its_step(opened):
    saved(opened())
    step, state = opened().load(STREAMS)
    assert step == 3
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_it_is_due_at_intervals_and_less_often_where_saving_is_slow(opened, time, monkeypatch):
    place = opened(every=10.0)
    place.load(STREAMS)
    assert not place.due()
    time[0] += 10
    assert place.due()

    def slow(*_):
        time[0] += 2

    monkeypatch.setattr(cell_checkpoint, "save_tensors", slow)
    place.save(1, STATE)
    time[0] += 39
    assert not place.due()
    time[0] += 1
    assert place.due()


@pytest.mark.parametrize("change", ["configuration", "code", "number of threads"])
def test_what_another_maker_left_is_not_used_and_noted(opened, change):
    saved(opened())
    place = opened(**{change: "other"})
    assert place.load(STREAMS) is None
    assert place.notes == [f"checkpoint loop0.safetensors was made with another {change}; started over"]
    assert place.resumed_at == []


def test_other_random_streams_are_not_resumed(opened):
    saved(opened())
    assert opened().load([*STREAMS, "generator.1.more"]) is None


def with_facts(file, **facts):
    """The same tensors under another header."""
    save_file(load_file(file), file, {"facts": json.dumps(facts)})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-7]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\x80\x04no tensors"),
        lambda file: save_file(load_file(file), file),
        lambda file: with_facts(file),
        lambda file: with_facts(file, made_by=[]),
        lambda file: with_facts(file, made_by=MADE_BY, step=3, measured=None),
        lambda file: (file.unlink(), file.mkdir()),
    ],
)
def test_a_file_that_cannot_be_read_is_not_used_and_noted(opened, spoil):
    saved(opened())
    place = opened()
    spoil(place.folder / "loop0.safetensors")
    assert place.load(STREAMS) is None
    assert place.notes == ["checkpoint loop0.safetensors cannot be read, it may be truncated or damaged; started over"]


def test_a_disk_that_refuses_costs_the_checkpoint_and_not_the_run(opened, tmp_path):
    (tmp_path / "cell").write_text("in the way")
    place = opened()
    saved(place)
    saved(place)
    assert len(place.notes) == 2  # of two loops, each once
    assert all(note.startswith("no checkpoint: cannot write") for note in place.notes)


def test_each_loop_of_a_method_has_its_own(opened):
    place = opened()
    saved(place, 3)
    saved(place, 8)
    again = opened()
    assert [again.load(STREAMS)[0] for _ in range(2)] == [3, 8]


def test_seconds_add_up_over_the_processes(opened, time):
    for part in range(3):
        place = opened()
        meter, steps = place.steps.meter, place.steps
        with meter.phase("distill"):
            place.load(STREAMS)
            with meter.phase("features"):
                time[0] += 100 * (part == 0)
            time[0] += 5
            steps(10 * part + 1, 30, 0.5)
            time[0] += 18
            steps(10 * part + 10, 30, 0.5)
            place.save(10 * part + 10, STATE)
            time[0] += 1000  # lost with the process
        assert place.resumed_at == [10, 20][:part]
    assert meter.seconds == {"distill": 3 * 23 + 1000, "features": 100, "checkpoint": 0}
    assert place.warmup == 15
    assert [step for step, _ in steps.curve.points] == [1, 10, 11, 20, 21, 30]
    assert steps.steps_per_second == 0.5  # of the last process
    assert meter.peaks["features"].cpu_rss > 0


def test_seconds_of_several_loops_count_once(opened, time):
    place = opened()
    with place.steps.meter.phase("distill"):
        for _ in range(2):
            place.load(STREAMS)
            time[0] += 7
            place.save(1, STATE)
    again = opened()
    with again.steps.meter.phase("distill"):
        for _ in range(2):
            again.load(STREAMS)
    assert again.steps.meter.seconds["distill"] == 14


def test_the_digest_of_the_code_is_that_of_the_folders_that_move_results(tmp_path):
    for folder in ("core", "benchmark"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("1")
    plugin = tmp_path / "plugin.py"
    plugin.write_text("1")
    found = [code_digest(tmp_path, plugin)]
    for changed in ("benchmark/a.py", "core/a.py", "plugin.py"):
        (tmp_path / changed).write_text("2")
        found.append(code_digest(tmp_path, plugin))
    assert [a == b for a, b in pairwise(found)] == [True, False, False]


def test_fresh_processes_resume_to_the_same_bits(tmp_path):
    """clpdd, lgm live and from the bank, krrst and mkdt: in one go, and stopped in one process and finished in another."""

    def process(folder, *arguments):
        command = [sys.executable, "-P", str(PROCESS), str(tmp_path / "cache"), str(folder), *arguments]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    straight = process(tmp_path / "straight")
    cut = process(tmp_path / "cut", "--stop-after", "5")
    resumed = process(tmp_path / "cut")
    assert all(not found["set"] for found in cut.values())
    assert all(found["resumed_at"] == [5] for found in resumed.values())
    assert {name: found["set"] for name, found in resumed.items()} == {name: f["set"] for name, f in straight.items()}
