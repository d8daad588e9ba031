"""When a run will end: from the cells that have ended, by what they cost, and the steps of those that run."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..suite.cell import Cell
from .job import Event


@dataclass
class Running:
    """A cell that runs, as its events tell it."""

    cell: Cell
    device: str
    since: float
    phase: str = "start"
    evaluation: str | None = None  # its name
    peak: int = 0  # bytes
    step: Event | None = None  # the last one of what runs now
    made: float | None = None  # seconds until the set was there
    _protocol: str | None = None  # of the evaluation that runs
    _began: float = 0.0  # when it, or the last step, did
    judged: list[tuple[str, float]] = field(default_factory=list)  # protocol and seconds of each evaluation that ended

    def hear(self, event: Event, now: float) -> None:
        self.peak = max(self.peak, event.peak or 0)
        if event.kind == "phase":
            self.phase = event.name or ""
        elif event.kind == "step":
            self.step, self._began = event, now if self._protocol is None else self._began
        elif event.kind == "evaluation":
            self.end_evaluation(now)
            self.made = self.made if self.made is not None else now - self.since
            known = {e.config_hash: e.protocol_spec for e in self.cell.evaluations}
            self.evaluation, self.step, self._protocol, self._began = event.name, None, known.get(event.config_hash or ""), now

    def end_evaluation(self, now: float) -> None:
        if self._protocol is not None:
            self.judged.append((self._protocol, now - self._began))

    def making(self) -> float | None:
        """Seconds from the start to the set, as far as its steps tell; None where there are none yet."""
        if self.made is not None:
            return self.made
        if self.step is None or self.step.eta_seconds is None:
            return None
        return self._began - self.since + self.step.eta_seconds

    def judging(self, now: float) -> tuple[str | None, float]:
        """Protocol of the evaluation that runs, and its seconds so far."""
        return self._protocol, now - self._began


class Forecast:
    """A cell's seconds are those of making the set and of each evaluation; one whose like has not been seen is not guessed."""

    def __init__(self, cells: Sequence[Cell] = ()):
        self._pending = dict(enumerate(cells, 1))
        self.running: dict[int, Running] = {}
        self._making: dict[tuple, list[float]] = defaultdict(list)
        self._judging: dict[str, list[float]] = defaultdict(list)
        self._places = 1  # cells that ran at once

    def start(self, index: int, cell: Cell, device: str, now: float) -> None:
        self._pending.pop(index, None)
        self.running[index] = Running(cell, device, now)
        self._places = max(self._places, len(self.running))

    def end(self, index: int, now: float) -> None:
        ended = self.running.pop(index, None)
        if ended is None:
            return
        ended.end_evaluation(now)
        for protocol, seconds in ended.judged:
            self._judging[protocol].append(seconds)
        for kin in _kin(ended.cell):
            self._making[kin].append(ended.made if ended.made is not None else now - ended.since)

    def left(self, now: float) -> tuple[float, bool]:
        """Seconds until the end, and whether they cover everything that is to come; what is not known counts as nothing."""
        parts = [part for running in self.running.values() for part in self._rest(running, now)]
        for cell in self._pending.values():
            parts += [self._make(cell), *self._judge(e.protocol_spec for e in cell.evaluations)]
        known = [part for part in parts if part is not None]
        return sum(known) / self._places, len(known) == len(parts)

    def _rest(self, running: Running, now: float) -> list[float | None]:
        """Seconds of what a running cell still has to do."""
        protocol, passed = running.judging(now)
        to_judge = [e.protocol_spec for e in running.cell.evaluations]
        for done, _ in running.judged:
            to_judge.remove(done)
        if running.made is None:
            whole = running.making()
            whole = whole if whole is not None else self._make(running.cell)
            return [None if whole is None else max(0.0, whole - (now - running.since)), *self._judge(to_judge)]
        if protocol is not None:
            to_judge.remove(protocol)
        (present,) = self._judge([protocol]) if protocol is not None else [0.0]
        return [None if present is None else max(0.0, present - passed), *self._judge(to_judge)]

    def _make(self, cell: Cell) -> float | None:
        """Seconds to make the set, from the most alike of the cells that are further on."""
        for kin in _kin(cell):
            telling = (r.making() for r in self.running.values() if kin in _kin(r.cell))
            if seen := [*self._making.get(kin, ()), *(seconds for seconds in telling if seconds is not None)]:
                return statistics.fmean(seen)
        return None

    def _judge(self, protocols: Iterable[str]) -> list[float | None]:
        """Seconds per evaluation of each protocol, from those that ended, in running cells too."""
        judged = [pair for running in self.running.values() for pair in running.judged]
        found: list[float | None] = []
        for protocol in protocols:
            seen = [*self._judging.get(protocol, ()), *(seconds for name, seconds in judged if name == protocol)]
            found.append(statistics.fmean(seen) if seen else None)
        return found


def _kin(cell: Cell) -> list[tuple]:
    """What cells of like cost share, the closest first."""
    data = (cell.method_spec, cell.dataset, cell.ipc)
    return [(*data, cell.distill_backbone), data, (cell.method_spec,)]
