"""Runs a plan: each cell in a fresh process, one per device at a time, every finished evaluation stored at once.

    summary = run_plan(plan(suite), Path("results/runs/x"), timeout=600, progress=reporter())

Rerunning skips what is recorded, and a cell that was cut short goes on from its checkpoint. A cell that dies, runs out of
memory or time becomes rows with a reason; the evaluations that it had finished stay, and those that it had not started are
tried in a new process. Ctrl-C, SIGTERM and SIGHUP end the run after the step in hand, with a checkpoint.
"""

import contextlib
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from ..machine import measure
from ..machine.signals import Interrupted, Stop, listening
from ..records.records import append_record, done_hashes
from ..records.run_folder import locked, prepare
from ..suite.cell import Cell, PlannedEvaluation
from . import CHECKPOINT_EVERY
from .attempts import failures
from .engine import Engine
from .job import Event, Job
from .local import LocalEngine
from .progress import Reporter, RunSummary

_SHORTEST = 0.1  # seconds that a cell must be given: less is a slip


def run_plan(
    cells: Sequence[Cell],
    out: Path,
    *,
    timeout: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Reporter | None = None,
    plugins: Iterable[str | Path] = (),
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY,
    engine: Engine | None = None,
) -> RunSummary:
    """Run what is not recorded in `out` yet; all of it with `overwrite`.

    Args:
        timeout: seconds per cell, at least 0.1; None: no limit.
        device: `auto`, or the device that the cells were planned for.
        threads: CPU threads of each cell process; None: torch's choice.
        plugins: files that every cell process imports first.
        checkpoint_every: seconds between two checkpoints of a cell, at least.
        engine: where cells run; None: on the devices of this machine.

    Raises `UserError` before anything runs if `out` cannot be written or is in use, and when a record or set cannot be written.
    Raises `Interrupted`, a `KeyboardInterrupt`, when a signal stopped the run and its processes are dead.
    """
    if timeout is not None and not _SHORTEST <= timeout < math.inf:
        raise UserError(f"a time limit of {timeout:g} s: give at least {_SHORTEST:g} s, or none")
    if not 0 <= checkpoint_every < math.inf:
        raise UserError(f"checkpoints every {checkpoint_every:g} s: give a number of seconds from 0")
    if device != "auto" and any(cell.device != device for cell in cells):
        raise UserError(f"the cells were planned for {cells[0].device}, not for {device}; give plan() the same device")
    out = prepare(out)
    with locked(out):
        done = set() if overwrite else done_hashes(out)
        todo = [part for cell in cells if (part := cell.only(_missing(cell, done))).evaluations]
        summary = RunSummary(skipped=sum(len(_missing(cell, set())) for cell in cells) - sum(len(c.evaluations) for c in todo))
        run_id, files = secrets.token_hex(8), tuple(str(Path(p).absolute()) for p in plugins)
        jobs = [Job(c, out, run_id, c.device, threads, files, overwrite, checkpoint_every, timeout) for c in todo]
        session = _Session(out, progress or Reporter(), summary)
        session.run(jobs, engine or LocalEngine(cells[0].device if cells else "cpu"))
    return summary


def _missing(cell: Cell, done: set[str]) -> list[PlannedEvaluation]:
    return [e for e in cell.evaluations if e.config_hash not in done]


@dataclass
class _Session:
    """One call of `run_plan`: it alone writes records and talks to the reporter."""

    out: Path
    reporter: Reporter
    summary: RunSummary

    def run(self, jobs: list[Job], engine: Engine) -> None:
        due = [job for job in jobs if not job.cell.unsupported]
        self.reporter.start([job.cell for job in due], self.summary.skipped)
        try:
            self._record_unsupported(job.cell for job in jobs if job.cell.unsupported)
            self._follow(due, engine)
        finally:
            self.reporter.finish(self.summary)

    def _record_unsupported(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            facts = {"device": cell.device, "started": measure.now()}
            for record in failures(cell, list(cell.evaluations), ("unsupported", cell.unsupported or ""), **facts):
                self._store(record)

    def _follow(self, jobs: list[Job], engine: Engine) -> None:
        stop, told = Stop(), False
        with listening(stop) as signals, contextlib.closing(engine.run(jobs, stop)) as events:  # type: ignore[type-var]
            for found in events:
                if found is not None:
                    self._hear(*found, jobs[found[0]].cell)  # type: ignore[call-arg]
                if signals.number is not None and not told:
                    told = True
                    self.reporter.warning("stopping after the step in hand, with a checkpoint; Ctrl-C again ends at once")
        if signals.number is not None:
            raise Interrupted(signals.number)

    def _hear(self, index: int, event: Event, cell: Cell) -> None:
        match event.kind:
            case "record":
                self._store(event.record or {})
            case "abort":
                raise UserError(event.reason)
            case "warning":
                self.reporter.warning(event.reason or "")
            case "started":
                self.reporter.cell_started(index + 1, cell, event.name or "")
            case "finished":
                self.reporter.cell_finished(index + 1, cell, event.seconds or 0.0)
            case _:
                self.reporter.event(index + 1, event)

    def _store(self, record: dict[str, Any]) -> None:
        append_record(self.out, record)
        self.summary.count(record)
        self.reporter.record(record)
