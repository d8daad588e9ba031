"""What a person sees of a run: a live line on a terminal, plain lines in a log, a summary at the end.

run_plan(cells, out, progress=reporter())
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean as mean
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..machine.measure import clock
from ..records.own_and_transfer import is_own
from ..suite.cell import Cell
from .forecast import Forecast, Running
from .job import Event


@dataclass
class RunSummary:
    """Numbers of evaluations of a run: finished now, skipped because they were there, without sense, failed."""

    done: int = 0
    skipped: int = 0
    unsupported: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)  # the records that are neither ok nor unsupported

    def count(self, record: dict[str, Any]) -> None:
        if record["status"] == "ok":
            self.done += 1
        elif record["status"] == "unsupported":
            self.unsupported += 1
        else:
            self.failed += 1
            self.failures.append(record)


class Reporter:
    """What the runner tells, always from one thread. This one stays silent; `index` counts cells from 1."""

    def start(self, cells: Sequence[Cell], skipped: int) -> None: ...
    def warning(self, text: str) -> None: ...
    def cell_started(self, index: int, cell: Cell, device: str) -> None: ...
    def event(self, index: int, event: Event) -> None: ...
    def record(self, record: dict[str, Any]) -> None: ...
    def cell_finished(self, index: int, cell: Cell, seconds: float) -> None: ...
    def finish(self, summary: RunSummary) -> None: ...


def reporter(stream: IO[str] | None = None) -> "PlainReporter":
    """The live display if `stream` (default stderr) is a terminal, plain lines otherwise."""
    console = Console(file=stream or sys.stderr)
    return LiveReporter(console) if console.is_terminal and not console.is_dumb_terminal else PlainReporter(console.file)


class PlainReporter(Reporter):
    """One line when a cell starts and one when it ends; no control characters."""

    def __init__(self, stream: IO[str]):
        self.stream = stream
        self.total = self.finished = 0
        self.begin = clock()
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.stopped: dict[int, Event] = {}

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more, or its disk is full; the run goes on
            print(line, file=self.stream, flush=True)

    def start(self, cells: Sequence[Cell], skipped: int) -> None:
        self.total, self.begin, self.finished = len(cells), clock(), 0
        if skipped:
            self.write(f"{skipped} evaluation{'s' * (skipped != 1)} done already, skipped")

    def warning(self, text: str) -> None:
        self.write(f"WARNING: {text}")

    def cell_started(self, index: int, cell: Cell, device: str) -> None:
        self.write(f"[{index}/{self.total}] {cell.label} on {device}: started")

    def event(self, index: int, event: Event) -> None:
        if event.kind == "stopped":
            self.stopped[index] = event

    def record(self, record: dict[str, Any]) -> None:
        self.records.setdefault(record["cell_hash"], []).append(record)

    def cell_finished(self, index: int, cell: Cell, seconds: float) -> None:
        self.finished += 1
        records, stopped = self.records.pop(cell.cell_hash, []), self.stopped.pop(index, None)
        end = [] if stopped is None else [stopping(stopped)]
        facts = [*outcomes(records), *end, duration(seconds), *peak(records), *notes(records)]
        self.write(f"[{index}/{self.total}] {cell.label}: {', '.join(facts)}")

    def finish(self, summary: RunSummary) -> None:
        for line in summary_lines(summary):
            self.write(line)


class LiveReporter(PlainReporter):
    """One refreshed block: a line for the run and one for each running cell; ended cells scroll above it."""

    def __init__(self, console: Console):
        super().__init__(console.file)
        self.console = console
        self.forecast = Forecast()
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self.console.print(Text(line), soft_wrap=True)

    def start(self, cells: Sequence[Cell], skipped: int) -> None:
        super().start(cells, skipped)
        self.forecast = Forecast(cells)
        if cells:
            self.live.start()

    def cell_started(self, index: int, cell: Cell, device: str) -> None:
        self.forecast.start(index, cell, device, clock())

    def event(self, index: int, event: Event) -> None:
        super().event(index, event)
        if index in self.forecast.running:
            self.forecast.running[index].hear(event, clock())

    def cell_finished(self, index: int, cell: Cell, seconds: float) -> None:
        self.forecast.end(index, clock())
        super().cell_finished(index, cell, seconds)

    def finish(self, summary: RunSummary) -> None:
        self.forecast.running.clear()
        self.live.stop()
        super().finish(summary)

    def render(self) -> Group:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self.total), completed=self.finished, width=30)
        head.add_row(bar, f"{self.finished}/{self.total} cells", duration(clock() - self.begin), self.time_left())
        width = self.console.width
        lines = (running_line(index, self.total, cell, width) for index, cell in sorted(self.forecast.running.items()))
        return Group(head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def time_left(self) -> str:
        """`about 3 min 12 s left`; `at least` where the cost of some cells is not known yet."""
        seconds, complete = self.forecast.left(clock())
        if complete:
            return f"about {duration(seconds)} left"
        return f"at least {duration(seconds)} left" if seconds else ""


_LABELS = 24  # columns that the cell's label and what it does now shall have, before rate and loss are shown


def running_line(index: int, total: int, cell: Running, width: int) -> str:
    """`[3/12] clpdd · … · distill · step 120/300 · loss 0.41 · 35 steps/s · 5 s left · 52.1 s · 1.20 GiB` in at most `width`
    columns: labels are shortened first, then rate and loss go; steps, times and memory stay."""
    step, seconds = cell.step, duration(clock() - cell.since)
    numbers = [
        (step and f"step {step.step}/{step.steps}", False),
        (step and step.loss is not None and f"loss {step.loss:.4g}", True),
        (step and step.steps_per_second is not None and f"{step.steps_per_second:.3g} steps/s", True),
        (step and step.eta_seconds is not None and f"{duration(step.eta_seconds)} left", False),
        (seconds, False),
        (cell.peak and gibibytes(cell.peak), False),
    ]
    number, what = f"[{index}/{total}] ", cell.evaluation or cell.phase
    for shown in (numbers, [each for each in numbers if not each[1]]):
        end = "".join(f" · {text}" for text, _ in shown if text)
        room = width - len(number) - len(" · ") - len(end)
        if room >= _LABELS:
            break
    label = shortened(cell.cell.label, max(room - len(what), room // 2))
    labels = [label, shortened(what, room - len(label))]
    return f"{number}{' · '.join(filter(None, labels))}{end}"


def shortened(text: str, length: int) -> str:
    """At most `length` columns of `text`; nothing where they would tell nothing."""
    return text if len(text) <= length else f"{text[: length - 1]}…" * (length > 2)


def stopping(event: Event) -> str:
    """What a cell that was asked to stop leaves."""
    return "stopped" if event.step is None else f"stopped; its checkpoint is that of step {event.step}"


def outcomes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Mean top-1 per protocol, on the set's own backbone and on the others apart; failures by status with their number."""
    parts = []
    for protocol in dict.fromkeys(r["protocol_spec"] for r in records):
        of = [r for r in records if r["protocol_spec"] == protocol]
        found = [r for r in of if r["status"] == "ok"]
        own = [r["top1"] for r in found if is_own(r)]
        others = [r["top1"] for r in found if not is_own(r)]
        if own and others:
            parts.append(f"{protocol} own {mean(own):.1f} transfer {mean(others):.1f} % (mean of {len(others)})")
        elif found:
            of_how_many = f" (mean of {len(others)})" * bool(others)
            parts.append(f"{protocol}{' own' * bool(own)} {mean(own or others):.1f} %{of_how_many}")
        for status in dict.fromkeys(r["status"] for r in of if r["status"] != "ok"):
            parts.append(f"{protocol} {status} ({sum(r['status'] == status for r in of)})")
    return parts


def peak(records: Sequence[dict[str, Any]]) -> list[str]:
    """Peak memory of distilling, GPU where there is one."""
    for name, what in (("gpu_allocated", "GPU"), ("cpu_rss", "RSS")):
        values = [r["peak_bytes"][name] for r in records if r["peak_bytes"].get(name)]
        if values:
            return [f"peak {gibibytes(max(values))} {what}"]
    return []


def notes(records: Sequence[dict[str, Any]]) -> list[str]:
    """That the set went on from a checkpoint, and why one was of no use."""
    first = records[0] if records else {}
    parts = [f"resumed at step {first['resumed_at'][-1]}"] if first.get("resumed_at") else []
    return [*parts, *filter(None, [first.get("checkpoint_note")])]


def summary_lines(summary: RunSummary) -> list[str]:
    """How many evaluations ended how, and each different reason of failure once."""
    counts = {"ok": summary.done, "skipped": summary.skipped, "unsupported": summary.unsupported, "failed": summary.failed}
    lines = [", ".join(f"{n} {word}" for word, n in counts.items() if n or word == "ok")]
    reasons: dict[str, int] = {}
    for record in summary.failures:
        where = " · ".join(filter(None, [record["method_spec"], record["distill_backbone"], record["dataset"]]))
        text = f"{where}: {record['status']}: {record['reason']}"
        reasons[text] = reasons.get(text, 0) + 1
    return [*lines, *(f"  {text}" + (f" ({n} evaluations)" if n > 1 else "") for text, n in reasons.items())]


def duration(seconds: float) -> str:
    """`8.4 s`, `3 min 12 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def gibibytes(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
