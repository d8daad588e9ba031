"""What passes between a run and the process of a cell: one job in, events out.

The job is one line of JSON on the cell's stdin, which stays open: a further line asks it to stop, and its end ends the cell.
Events are lines of JSON through a pipe of their own. A job is ours and is believed; an event comes out of a process that ran
a plugin, and is checked.
"""

import json
import os
import signal
import threading
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..records.records import jsonable
from ..suite.cell import Cell
from . import CHECKPOINT_EVERY

STOP = b"stop\n"  # behind the job: end after the step in hand


@dataclass(frozen=True)
class Job:
    """What a cell process is to do, and with what."""

    cell: Cell
    out: Path  # the run folder
    run_id: str  # tells runs that share a device apart
    device_label: str  # as in the records: cpu, cuda, cuda:1
    threads: int | None = None  # CPU threads; None: torch's choice
    plugins: tuple[str, ...] = ()  # files to import first
    overwrite: bool = False  # distil again what is stored
    checkpoint_every: float = CHECKPOINT_EVERY  # seconds, at least
    timeout: float | None = None  # seconds for the whole cell, over all of its processes; None: no limit

    def to_json(self) -> dict[str, Any]:
        return {**jsonable(asdict(replace(self, out=str(self.out)))), "cell": self.cell.to_json()}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Job":
        cell, out = Cell.from_json(facts["cell"]), Path(facts["out"])
        return cls(**{**facts, "cell": cell, "out": out, "plugins": tuple(facts["plugins"])})


@dataclass(frozen=True)
class Event:
    """One thing that happened to a cell; what does not belong to its kind is None."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    kind: Literal[
        "started",  # the engine began with the cell: name (of the device)
        "environment",  # of the cell process: environment
        "phase",  # began: name, peak
        "step",  # done: step, steps, loss, steps_per_second, eta_seconds, peak
        "evaluation",  # began: name, config_hash
        "record",  # of one evaluation: record
        "stopped",  # as it was asked to, with a checkpoint: step, steps
        "abort",  # the run cannot go on: reason
        "finished",  # the engine is done with the cell: seconds
        "warning",  # to the person: reason
    ]
    name: str | None = None
    peak: int | None = None  # bytes, resident
    config_hash: str | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    eta_seconds: float | None = None
    seconds: float | None = None
    record: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    reason: str | None = None

    def to_line(self) -> bytes:
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        return json.dumps(jsonable(given)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Event":
        """Raises `ValueError` for anything but the line of an event."""
        try:
            return _events().validate_json(line)
        except ValidationError:
            raise ValueError("not the line of an event") from None


@cache
def _events() -> TypeAdapter[Event]:
    return TypeAdapter(Event)


def read_job(descriptor: int = 0) -> Job:
    """The job from the first line of stdin. Raises `KeyboardInterrupt` where a stop was asked for before it was read."""
    text = b""
    while b"\n" not in text:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            raise SystemExit("no job on stdin; this program is started by `ddbench run`")
        text += chunk
    line, _, rest = text.partition(b"\n")
    if rest:
        raise KeyboardInterrupt
    return Job.from_json(json.loads(line))


def end_with_parent(descriptor: int = 0) -> None:
    """End this process when stdin closes, so that a killed `ddbench run` leaves nothing behind; where a line asks for a stop,
    send it the SIGINT of a Ctrl-C."""

    def wait() -> None:
        while os.read(descriptor, len(STOP)):
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
