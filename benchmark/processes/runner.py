"""Runs a plan: each cell in a fresh process, one per device at a time, every finished evaluation stored at once.

    summary = run_plan(plan(suite), Path("results/runs/x"), timeout=600, progress=reporter())

Rerunning skips what is recorded, and a cell that was cut short goes on from its checkpoint. A cell that dies, runs out of
memory or time becomes rows with a reason; the evaluations that it had finished stay, and those that it had not started are
tried in a new process.
"""

import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...core.disk import writing
from ...core.errors import UserError
from ...core.parallel import member
from ..machine import measure
from ..machine.environment import environment
from ..machine.in_use import in_use_by_others, present
from ..machine.outcome import classify_exit
from ..records.records import append_record, done_hashes
from ..records.run_folder import locked, prepare
from ..suite.cell import Cell, PlannedEvaluation, blank_record
from .job import CHECKPOINT_EVERY
from .launcher import Ended, Host, Slot, launch, slots
from .progress import Reporter
from .run_summary import RunSummary


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
) -> RunSummary:
    """Run what is not recorded in `out` yet; all of it with `overwrite`.

    Args:
        timeout: seconds per cell; None: no limit.
        device: `auto`, or the device that the cells were planned for.
        threads: CPU threads of each cell process; None: torch's choice.
        plugins: files that every cell process imports first.
        checkpoint_every: seconds between two checkpoints of a cell, at least.

    Raises `UserError` before anything runs if `out` cannot be written or is in use, and when a record or set cannot be written.
    `KeyboardInterrupt` passes through after the running processes are dead; finished records stay.
    """
    out = Path(out).absolute()
    if device != "auto" and any(cell.device != device for cell in cells):
        raise UserError(f"the cells were planned for {cells[0].device}, not for {device}; give plan() the same device")
    prepare(out)
    with locked(out):
        done = set() if overwrite else done_hashes(out)
        todo = [part for cell in cells if (part := cell.only(_missing(cell, done))).evaluations]
        summary = RunSummary(skipped=sum(len(_missing(cell, set())) for cell in cells) - sum(len(c.evaluations) for c in todo))
        settings = {
            "out": str(out),
            "threads": threads,
            "plugins": [str(Path(p).absolute()) for p in plugins],
            "overwrite": overwrite,
            "checkpoint_every": checkpoint_every,
            "run_id": secrets.token_hex(8),
        }
        _Session(out, settings, timeout, progress or Reporter(), summary).run(todo)
    return summary


def _missing(cell: Cell, done: set[str]) -> list[PlannedEvaluation]:
    return [e for e in cell.evaluations if e.config_hash not in done]


@dataclass
class _Session:
    """One call of `run_plan`. Workers wait for processes; this thread alone writes records and talks to the reporter."""

    out: Path
    settings: dict[str, Any]
    timeout: float | None
    reporter: Reporter
    summary: RunSummary
    stop: threading.Event = field(default_factory=threading.Event)
    messages: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)

    def run(self, cells: list[Cell]) -> None:
        self.reporter.start([cell for cell in cells if not cell.unsupported], self.summary.skipped)
        try:
            for cell in cells:
                if cell.unsupported:
                    outcome = ("unsupported", cell.unsupported)
                    self.store_failures(cell, cell.evaluations, outcome, device=cell.device, started=measure.now())
            self._run_in_slots([cell for cell in cells if not cell.unsupported])
        finally:
            self.reporter.finish(self.summary)

    def _run_in_slots(self, cells: list[Cell]) -> None:
        pending: queue.SimpleQueue[tuple[int, Cell]] = queue.SimpleQueue()
        for item in enumerate(cells, 1):
            pending.put(item)
        together = member()[1]  # processes that work on one cell; cells then come one after the other
        places = slots(cells[0].device)[: together if together > 1 else len(cells)] if cells else []
        devices = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in places]
        if any(in_use_by_others(self.settings["run_id"], device) for device in devices):
            self.reporter.warning("another run of ddbench uses the same device; the seconds of both will be too long")
        workers = [threading.Thread(target=self._work, args=(pending, slot)) for slot in places[: 1 if together > 1 else None]]
        with present(self.settings["run_id"], devices):
            self._follow(workers)

    def _follow(self, workers: list[threading.Thread]) -> None:
        for worker in workers:
            worker.start()
        try:
            while any(worker.is_alive() for worker in workers) or not self.messages.empty():
                with suppress(queue.Empty):
                    self.messages.get(timeout=0.1)()
        except KeyboardInterrupt:
            self._end(workers)
            while not self.messages.empty():  # what had finished before the interrupt is kept
                self.messages.get()()
            raise
        finally:
            self._end(workers)

    def _end(self, workers: list[threading.Thread]) -> None:
        """No process outlives the run, whether it is complete, interrupted, or out of disk."""
        self.stop.set()
        for worker in workers:
            worker.join()

    def _work(self, pending: "queue.SimpleQueue[tuple[int, Cell]]", slot: Slot) -> None:
        with suppress(queue.Empty), Host(slot.environment) as host:
            while not self.stop.is_set():
                index, cell = pending.get_nowait()
                try:
                    _CellWatch(self, index, cell, slot, host).run()
                except Exception as error:  # a bug in the harness: raise it in the main thread
                    self.messages.put(_raiser(error))
                    return

    def store(self, record: dict[str, Any]) -> None:
        append_record(self.out, record)
        self.summary.count(record)
        self.reporter.record(record)

    def store_failures(self, cell: Cell, lost: Iterable[PlannedEvaluation], outcome: tuple[str, str], **facts: Any) -> None:
        """Rows for evaluations that no cell process reported."""
        facts["environment"] = facts.get("environment") or environment(torch.device("cpu"))
        for evaluation in lost:
            self.store({**blank_record(cell, evaluation, *outcome), **facts, "finished": measure.now()})


def _raiser(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@dataclass
class _CellWatch:
    """One cell on one slot, in as many processes as it takes: a crash costs the evaluation in which it happened."""

    session: _Session
    index: int
    cell: Cell
    slot: Slot
    host: Host
    current: str | None = None  # config hash of the evaluation that is running
    environment: dict[str, Any] | None = None  # of the cell process, as it reported it
    left: dict[str, PlannedEvaluation] = field(default_factory=dict)

    def run(self) -> None:
        session, started = self.session, measure.now()
        self.left = {e.config_hash: e for e in self.cell.evaluations}
        log = session.out / "logs" / f"{self.cell.cell_hash}.log"
        with writing(log):
            log.write_bytes(b"")
        begin = measure.clock()
        session.messages.put(lambda: session.reporter.cell_started(self.index, self.cell, self.slot.label))
        overwrite = session.settings["overwrite"]
        while self.left and not session.stop.is_set():
            self.current = None
            timeout = None if session.timeout is None else session.timeout - (measure.clock() - begin)
            job = {
                **session.settings,
                "overwrite": overwrite,
                "device_label": self.slot.label,
                "cell": self.cell.only(self.left.values()).to_json(),
            }
            ended = launch(job, host=self.host, log=log, timeout=timeout, on_event=self._event, stop=session.stop)
            if self.left and not ended.stopped:
                self._close(ended, f"logs/{log.name}", started)
            overwrite = overwrite and self.current is None  # a later process goes on with the set of this run
        seconds = measure.clock() - begin
        session.messages.put(lambda: session.reporter.cell_finished(self.index, self.cell, seconds))

    def _event(self, event: dict[str, Any]) -> None:
        session = self.session
        if event["event"] == "record":
            record = event["record"]
            self.left.pop(record["config_hash"], None)
            session.messages.put(lambda: session.store(record))
        elif event["event"] == "environment":
            self.environment = event["environment"]
        elif event["event"] == "abort":
            session.messages.put(_raiser(UserError(f"{event['reason']}; free some space, then rerun to resume")))
        else:
            self.current = event.get("config_hash", self.current)
            session.messages.put(lambda: session.reporter.event(self.index, event))

    def _close(self, ended: Ended, log: str, started: str) -> None:
        """Rows for what the process left undone: the evaluation that it died in, or everything where it came to none."""
        outcome = classify_exit(ended.returncode, log)
        if ended.timed_out:
            outcome = ("timeout", f"took longer than the time limit of {self.session.timeout:g} s")
        guilty = [self.current] if self.current in self.left and not ended.timed_out else list(self.left)
        lost = [self.left.pop(key) for key in guilty if key is not None]
        facts = {"device": self.slot.label, "started": started, "environment": self.environment}
        self.session.messages.put(lambda: self.session.store_failures(self.cell, lost, outcome, **facts))
