"""What a person sees: plain lines in a log, a live block on a terminal, one summary."""

import dataclasses
import io

import pytest
from rich.console import Console

from ddbench.benchmark.processes import progress
from ddbench.benchmark.processes.forecast import Running
from ddbench.benchmark.processes.job import Event
from ddbench.benchmark.processes.progress import (
    LiveReporter,
    PlainReporter,
    RunSummary,
    duration,
    notes,
    outcomes,
    reporter,
    running_line,
    summary_lines,
)

STEP = Event("step", step=2, steps=9, loss=0.5, steps_per_second=4.0, eta_seconds=1.75, peak=2**30)


def record_of(cell, status="ok", top1=50.0, protocol="ridge", reason=None, distil="net", judge="other"):
    facts = {"method": "m", "method_spec": "m", "distill_backbone": distil, "dataset": "data", "cell_hash": cell.cell_hash}
    facts["eval_backbone"] = judge
    return {
        **facts, "status": status, "top1": top1, "protocol_spec": protocol, "reason": reason,
        "peak_bytes": {"gpu_allocated": None, "cpu_rss": 2**30},
    }  # fmt: skip


def play(out, cell):
    """A run of two cells, the first of which ends."""
    out.start([cell, cell], skipped=3)
    out.cell_started(1, cell, "cpu")
    out.event(1, Event("phase", name="distill", peak=2**29))
    out.event(1, STEP)
    for record in (record_of(cell, top1=40.0), record_of(cell, top1=60.0), record_of(cell, "oom", None, "probe", "no memory")):
        out.record(record)


def test_plain_lines(cell_of):
    cell, stream = cell_of(), io.StringIO()
    out = PlainReporter(stream)
    play(out, cell)
    out.cell_finished(1, cell, 75)
    out.finish(RunSummary(done=2, skipped=3, failed=1, failures=[record_of(cell, "oom", None, "probe", "no memory")]))
    assert stream.getvalue().splitlines() == [
        "3 evaluations done already, skipped",
        "[1/2] m · net · data · ipc 1 · seed 0 on cpu: started",
        "[1/2] m · net · data · ipc 1 · seed 0: ridge 50.0 % (mean of 2), probe oom (1), 1 min 15 s, peak 1.00 GiB RSS",
        "2 ok, 3 skipped, 1 failed",
        "  m · net · data: oom: no memory",
    ]
    assert not set(stream.getvalue()) & {"\r", "\x1b"}


def test_the_live_block_shows_step_loss_rate_and_memory(cell_of, monkeypatch):
    monkeypatch.setattr(progress, "clock", lambda: 100.0)
    cell = cell_of()
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    out = LiveReporter(console)
    play(out, cell)
    line = running_line(1, 2, out.forecast.running[1], 200)
    expected = "distill · step 2/9 · loss 0.5 · 4 steps/s · 1.8 s left · 0.0 s · 1.00 GiB"
    assert line == f"[1/2] m · net · data · ipc 1 · seed 0 · {expected}"
    out.event(1, Event("evaluation", name="ridge on net", config_hash="x"))
    assert "ridge on net" in running_line(1, 2, out.forecast.running[1], 200)
    with console.capture() as capture:
        console.print(out.render())
    assert "0/2 cells" in capture.get()
    out.cell_finished(1, cell, 10)
    assert out.forecast.running == {}
    out.finish(RunSummary(done=2))
    assert not out.live.is_started


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("evaluation", [None, "linear-probe[epochs=1000,lr=0.001,batch=100] on torchvision[model=vgg19]"])
def test_a_narrow_line_keeps_its_numbers(cell_of, monkeypatch, width, evaluation):
    monkeypatch.setattr(progress, "clock", lambda: 4000.0)
    long = cell_of(method_spec=f"clpdd[{'tau=0.05,' * 20}]")
    step = dataclasses.replace(STEP, step=1200, steps=20000, eta_seconds=4000.0)
    cell = Running(long, "cpu", 100.0, phase="distill", evaluation=evaluation, peak=2**31, step=step)
    line = running_line(112, 132, cell, width)
    assert len(line) <= width
    assert line.startswith("[112/132] clpdd[tau" if width == 120 else "[112/132] ")
    assert line.endswith("1 h 06 min left · 1 h 05 min · 2.00 GiB")
    assert "step 1200/20000" in line
    assert ("steps/s" in line) == (width == 120)
    assert ("linear" if evaluation else "distill")[: 2 if width == 80 else None] in line


def test_own_and_transfer_are_told_apart(cell_of):
    cell = cell_of()
    own, others = record_of(cell, top1=84.3, judge="net"), [record_of(cell, top1=t) for t in (43.0, 43.8)]
    assert outcomes([own, *others]) == ["ridge own 84.3 transfer 43.4 % (mean of 2)"]
    assert outcomes([own]) == ["ridge own 84.3 %"]
    assert outcomes([record_of(cell, top1=20.0, distil=None)] * 3) == ["ridge 20.0 % (mean of 3)"]


def test_a_stopped_cell_says_where_it_goes_on(cell_of):
    cell, stream = cell_of(), io.StringIO()
    out = PlainReporter(stream)
    out.start([cell, cell], 0)
    out.event(1, Event("stopped", step=103))
    out.cell_finished(1, cell, 4)
    assert stream.getvalue() == "[1/2] m · net · data · ipc 1 · seed 0: stopped; its checkpoint is that of step 103, 4.0 s\n"


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_log_that_nobody_reads_does_not_end_the_run(cell_of):
    play(PlainReporter(Broken()), cell_of())


def test_a_log_gets_plain_lines_and_a_terminal_the_live_block(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert type(reporter(io.StringIO())) is PlainReporter
    monkeypatch.setenv("TERM", "xterm")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    assert type(reporter(terminal)) is LiveReporter


def test_what_became_of_checkpoints_is_told(cell_of):
    record = record_of(cell_of())
    assert notes([]) == notes([record]) == notes([{**record, "resumed_at": [], "checkpoint_note": None}]) == []
    assert notes([{**record, "resumed_at": [20, 70], "checkpoint_note": None}] * 2) == ["resumed at step 70"]
    assert notes([{**record, "resumed_at": [], "checkpoint_note": "no checkpoint"}]) == ["no checkpoint"]


def test_the_same_reason_is_told_once(cell_of):
    records = [record_of(cell_of(), "failed", None, reason="no file")] * 4
    assert summary_lines(RunSummary(failed=4, failures=records)) == [
        "0 ok, 4 failed",
        "  m · net · data: failed: no file (4 evaluations)",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(8.44, "8.4 s"), (59.99, "60.0 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
