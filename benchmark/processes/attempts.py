"""One cell in as many processes as it takes: a crash costs the evaluation in which it happened, and becomes its record."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...core.disk import writing
from ...core.errors import UserError
from ..machine import measure
from ..machine.environment import environment
from ..machine.outcome import classify_exit
from ..machine.signals import Stop
from ..records.fields import fault
from ..suite.cell import Cell, PlannedEvaluation, blank_record
from .job import Event, Job
from .launcher import Ended, Host, launch

_LAST_WORDS = 4000  # bytes of a log
_OF_A_CELL = ("phase", "step", "evaluation", "stopped")  # kinds of events that only tell how far it is


def run_cell(job: Job, host: Host, tell: Callable[[Event], None], stop: Stop) -> None:
    """Tells `started`, one `record` per evaluation unless it was stopped, what lies between, and `finished`."""
    begin = measure.clock()
    tell(Event("started", name=job.device_label))
    try:
        _Attempts(job, host, tell).run(stop)
    except UserError as error:
        tell(Event("abort", reason=str(error)))
    tell(Event("finished", seconds=measure.clock() - begin))


class _Attempts:
    def __init__(self, job: Job, host: Host, tell: Callable[[Event], None]):
        self.job, self.host, self.tell = job, host, tell
        self.left = {e.config_hash: e for e in job.cell.evaluations}
        self.current: str | None = None  # config hash of the evaluation that is running
        self.environment: dict[str, Any] | None = None  # of the cell process, as it reported it
        self.started = measure.now()

    def run(self, stop: Stop) -> None:
        job, begin = self.job, measure.clock()
        log = job.out / "logs" / f"{job.cell.cell_hash}.log"
        with writing(log):
            log.write_bytes(b"")
        while self.left and not stop.asked.is_set():
            self.current = None
            timeout = None if job.timeout is None else job.timeout - (measure.clock() - begin)
            part = replace(job, cell=job.cell.only(self.left.values()))
            ended = launch(part, host=self.host, log=log, timeout=timeout, tell=self._hear, stop=stop)
            if self.left and ended.why != "stopped":
                self._close(ended, log)
            job = replace(job, overwrite=job.overwrite and self.current is None)  # else go on with the set of this run

    def _hear(self, event: Event) -> None:
        if event.kind == "record":
            self._hear_record(event.record or {})
        elif event.kind == "environment":
            self.environment = event.environment
        elif event.kind == "abort":
            self.tell(replace(event, reason=f"{event.reason}; free some space, then rerun to resume"))
        elif event.kind in _OF_A_CELL:
            self.current = event.config_hash or self.current
            self.tell(event)

    def _hear_record(self, record: dict[str, Any]) -> None:
        """Each once, and only what was asked for; one that could not be read again is a failure."""
        evaluation = self.left.pop(record.get("config_hash", ""), None)
        if evaluation is not None and (reason := fault(record)) is not None:
            facts = {"device": self.job.device_label, "started": self.started, "environment": self.environment}
            (record,) = failures(self.job.cell, [evaluation], ("failed", f"the record of this evaluation {reason}"), **facts)
        if evaluation is not None:
            self.tell(Event("record", record=record))

    def _close(self, ended: Ended, log: Path) -> None:
        """Rows for what the process left undone: the evaluation that it died in, or everything where it came to none."""
        guilty = [self.current] if self.current in self.left and ended.why != "timeout" else list(self.left)
        lost = [self.left.pop(key) for key in guilty if key is not None]
        facts = {"device": self.job.device_label, "started": self.started, "environment": self.environment}
        for record in failures(self.job.cell, lost, self._outcome(ended, log), **facts):
            self.tell(Event("record", record=record))

    def _outcome(self, ended: Ended, log: Path) -> tuple[str, str]:
        """Status and reason."""
        name = f"logs/{log.name}"
        if ended.why == "exited":
            return classify_exit(ended.returncode, name, last_words(log))
        if ended.why == "timeout":
            return "timeout", f"took longer than the time limit of {self.job.timeout:g} s"
        return "failed", f"{_ENDED[ended.why]}, and was ended (see {name})"


_ENDED = {
    "silent": "the process closed its events and went on",
    "garbage": "the process wrote something else than events where events belong",
    "flood": "the process wrote more than its log may hold",
}


def last_words(log: Path) -> str:
    """The end of a log."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - _LAST_WORDS))
            return opened.read().decode(errors="replace")
    except OSError:
        return ""


def failures(cell: Cell, lost: list[PlannedEvaluation], outcome: tuple[str, str], **facts: Any) -> list[dict[str, Any]]:
    """Records for evaluations that no cell process reported."""
    facts["environment"] = facts.get("environment") or environment(torch.device("cpu"))
    return [{**blank_record(cell, evaluation, *outcome), **facts, "finished": measure.now()} for evaluation in lost]
