"""What a person sees of a run: a live line on a terminal, plain lines in a log, a summary at the end.

run_plan(cells, out, progress=reporter())
"""

import sys
from collections.abc import Sequence
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..machine.measure import clock
from ..suite.cell import Cell
from .run_summary import RunSummary


class Reporter:
    """What the runner tells, always from one thread. This one stays silent; `index` counts cells from 1."""

    def start(self, cells: Sequence[Cell], skipped: int) -> None: ...
    def warning(self, text: str) -> None: ...
    def cell_started(self, index: int, cell: Cell, device: str) -> None: ...
    def event(self, index: int, event: dict[str, Any]) -> None: ...
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

    def write(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def start(self, cells: Sequence[Cell], skipped: int) -> None:
        self.total, self.begin, self.finished = len(cells), clock(), 0
        if skipped:
            self.write(f"{skipped} evaluation{'s' * (skipped != 1)} done already, skipped")

    def warning(self, text: str) -> None:
        self.write(f"WARNING: {text}")

    def cell_started(self, index: int, cell: Cell, device: str) -> None:
        self.write(f"[{index}/{self.total}] {cell.label} on {device}: started")

    def record(self, record: dict[str, Any]) -> None:
        self.records.setdefault(record["cell_hash"], []).append(record)

    def cell_finished(self, index: int, cell: Cell, seconds: float) -> None:
        self.finished += 1
        records = self.records.pop(cell.cell_hash, [])
        facts = [*outcomes(records), duration(seconds), *peak(records), *notes(records)]
        self.write(f"[{index}/{self.total}] {cell.label}: {', '.join(facts)}")

    def finish(self, summary: RunSummary) -> None:
        for line in summary_lines(summary):
            self.write(line)

    def eta(self, running: int) -> float | None:
        """Seconds until the end of the run, from the pace of the finished cells."""
        if not self.finished:
            return None
        return (clock() - self.begin) / (self.finished + running / 2) * (self.total - self.finished - running / 2)


class LiveReporter(PlainReporter):
    """One refreshed block: a line for the run and one for each running cell; ended cells scroll above it."""

    def __init__(self, console: Console):
        super().__init__(console.file)
        self.console = console
        self.running: dict[int, dict[str, Any]] = {}
        self.live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def write(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def start(self, cells: Sequence[Cell], skipped: int) -> None:
        super().start(cells, skipped)
        if cells:
            self.live.start()

    def cell_started(self, index: int, cell: Cell, device: str) -> None:
        self.running[index] = {"cell": cell, "device": device, "since": clock(), "phase": "start", "peak": 0, "step": {}}

    def event(self, index: int, event: dict[str, Any]) -> None:
        state = self.running.get(index)
        if state is None:
            return
        state["peak"] = max(state["peak"], event.get("peak") or 0)
        if event["event"] == "phase":
            state["phase"] = event["name"]
        elif event["event"] == "step":
            state["step"] = event
        elif event["event"] == "evaluation":
            state["evaluation"], state["step"] = event["name"], {}

    def cell_finished(self, index: int, cell: Cell, seconds: float) -> None:
        self.running.pop(index, None)
        super().cell_finished(index, cell, seconds)

    def finish(self, summary: RunSummary) -> None:
        self.running.clear()
        self.live.stop()
        super().finish(summary)

    def render(self) -> Group:
        head = Table.grid(padding=(0, 1))
        eta = self.eta(len(self.running))
        bar = ProgressBar(total=max(1, self.total), completed=self.finished, width=30)
        passed = duration(clock() - self.begin)
        head.add_row(
            bar, f"{self.finished}/{self.total} cells", passed, f"about {duration(eta)} left" if eta is not None else ""
        )
        lines = (running_line(index, self.total, state) for index, state in sorted(self.running.items()))
        return Group(head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def running_line(index: int, total: int, state: dict[str, Any]) -> str:
    """`[3/12] clpdd · … · distill · step 120/300 · loss 0.41 · 35 steps/s · 5 s left · 1.20 GiB`."""
    step = state["step"]
    parts = [f"[{index}/{total}] {state['cell'].label}", state["phase"], state.get("evaluation")]
    if step:
        parts.append(f"step {step['step']}/{step['steps']}")
        parts.append(None if step["loss"] is None else f"loss {step['loss']:.4g}")
        parts.append(None if step["steps_per_second"] is None else f"{step['steps_per_second']:.3g} steps/s")
        parts.append(None if step["eta_seconds"] is None else f"{duration(step['eta_seconds'])} left")
    parts += [duration(clock() - state["since"]), gibibytes(state["peak"]) if state["peak"] else None]
    return " · ".join(part for part in parts if part)


def outcomes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Mean top-1 per protocol over the eval backbones; failures by status with their number."""
    parts = []
    for protocol in dict.fromkeys(r["protocol_spec"] for r in records):
        of = [r for r in records if r["protocol_spec"] == protocol]
        found = [r["top1"] for r in of if r["status"] == "ok"]
        if found:
            parts.append(f"{protocol} {sum(found) / len(found):.1f} % (mean of {len(found)})")
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
