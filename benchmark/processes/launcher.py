"""Devices that run cells, and one cell process: forked, followed, and ended when done, late or no longer wanted."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ...core.disk import writing
from ...core.errors import UserError
from ..machine.measure import clock
from ..machine.signals import Stop
from .job import STOP, Event, Job

HOST = (sys.executable, "-P", "-m", "ddbench.benchmark.processes.fork_server")
CELL = "ddbench.benchmark.cell.main"  # the module that a cell process runs
_POLL = 0.2  # seconds between looks at the clock, at `stop` and at the log
_GRACE = 10.0  # seconds that a process may take to end after its last event
_STOPPING = 60.0  # seconds that it may take to end after it was asked to
_LONGEST_LOG = 2**28  # bytes
_LONGEST_EVENT = 2**26  # bytes of a line; records are some kilobytes


@dataclass(frozen=True)
class Slot:
    """A device that runs one cell at a time."""

    label: str  # as in the records: cpu, cuda, cuda:1
    environment: dict[str, str]  # added to that of the cell processes


def slots(kind: str) -> list[Slot]:
    """One slot for the CPU, one per visible GPU for CUDA."""
    ids = environment_of(kind)["CUDA_VISIBLE_DEVICES"].split(",")
    labels = [kind] if len(ids) == 1 else [f"{kind}:{index}" for index in range(len(ids))]
    return [
        Slot(label, {**environment_of(kind), "CUDA_VISIBLE_DEVICES": name}) for label, name in zip(labels, ids, strict=True)
    ]


def environment_of(kind: str) -> dict[str, str]:
    """Variables of a cell process that may use every visible device of its kind."""
    common = {"PYTHONHASHSEED": "0"}
    if kind == "cpu":
        return {**common, "CUDA_VISIBLE_DEVICES": ""}
    common["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return {**common, "CUDA_VISIBLE_DEVICES": visible}


@dataclass(frozen=True)
class Ended:
    """How a process ended; it is dead whatever the reason."""

    why: Literal["exited", "timeout", "stopped", "silent", "garbage", "flood"]
    returncode: int = -signal.SIGKILL


class Host:
    """The process that the cells of one slot are forked from (fork_server.py), one cell at a time.

    It starts with the first cell, and again if it has died. It belongs to the thread that started it, and ends with it.
    """

    def __init__(self, environment: dict[str, str]):
        self._environment = environment
        self._process: subprocess.Popen | None = None
        self._control = socket.socket()
        self._answers: list[int] = []  # of the present cell: its process id, then its exit code

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def fork(self, job: int, log: int, events: int) -> None:
        """Ask for a cell with these descriptors."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._start(log)
        self._answers = []
        try:
            socket.send_fds(self._control, [b"."], [job, log, events])
        except OSError:
            self._answers = _DEAD

    def exit_code(self, timeout: float | None) -> int | None:
        """The exit code of the cell, or None if it still runs after `timeout` seconds (None: wait for it)."""
        while len(self._answers) < 2:
            if not select.select([self._control], [], [], timeout)[0]:
                return None
            with suppress(ConnectionResetError):
                if lines := self._control.recv(64).split():
                    self._answers = [*self._answers, *map(int, lines)]
                    continue
            self._answers = _DEAD
        return self._answers[1]

    def end_cell(self) -> None:
        """Kill the cell if it still runs; the host then kills whatever it has started."""
        if self.exit_code(0) is not None:
            return
        if self._answers:
            with suppress(ProcessLookupError):
                os.kill(self._answers[0], signal.SIGKILL)
            self.exit_code(None)
        else:  # the host is still importing
            self.kill()

    def kill(self) -> None:
        """End the host, and with it a cell that it has forked."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        self._control.close()

    def _start(self, log: int) -> None:
        self._control, theirs = socket.socketpair()
        command = (*HOST, str(theirs.fileno()), CELL, str(os.getpid()))
        variables = {**os.environ, **self._environment}
        descriptors = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "pass_fds": [theirs.fileno()]}
        try:
            self._process = subprocess.Popen(command, env=variables, start_new_session=True, **descriptors)
        except OSError as error:
            raise UserError(f"cannot start a process: {error.strerror}; rerun to resume") from error
        finally:
            theirs.close()


_DEAD = [0, -signal.SIGKILL]  # the host is gone, and the cell with it; for want of memory, more often than not


def launch(job: Job, *, host: Host, log: Path, timeout: float | None, tell: Callable[[Event], None], stop: Stop) -> Ended:
    """Run one job to its end, in a process of its own that is dead afterwards, with all that it has started.

    Raises `UserError` where no process can be started or the log cannot be written.
    """
    deadline = float("inf") if timeout is None else clock() + timeout
    (job_out, job_in), (events_out, events_in) = os.pipe(), os.pipe()
    try:
        try:
            with writing(log), log.open("ab") as stream:
                host.fork(job_out, stream.fileno(), events_in)
        finally:
            os.close(job_out)
            os.close(events_in)
        with suppress(BrokenPipeError), open(job_in, "wb", closefd=False) as pipe:  # it died while starting: see its exit code
            pipe.write(json.dumps(job.to_json()).encode() + b"\n")
        return _follow(_Events(events_out, tell), job_in, host, log, deadline, stop)
    finally:
        host.end_cell()
        with suppress(OSError):
            if log.stat().st_size > _LONGEST_LOG:
                os.truncate(log, _LONGEST_LOG // 2)
        os.close(job_in)  # it stayed open until here, because the process ends when its stdin closes
        os.close(events_out)


def _follow(events: "_Events", job: int, host: Host, log: Path, deadline: float, stop: Stop) -> Ended:
    asked = last = float("inf")  # when it was asked to stop, and when its events ended
    while True:
        if stop.asked.is_set() and asked == float("inf"):
            asked = clock()
            with suppress(BrokenPipeError):
                os.write(job, STOP)
        if events.open:
            try:
                events.read(_POLL)
            except ValueError:
                return Ended("garbage")
            last = last if events.open else clock()
        code, now = host.exit_code(0 if events.open else _POLL), clock()
        if stop.at_once.is_set() or now > asked + _STOPPING:
            return Ended("stopped")
        if now > deadline:
            return Ended("timeout")
        if events.waiting():  # what it has told counts before what it does wrong
            continue
        if code is not None:
            return Ended("stopped" if stop.asked.is_set() else "exited", code)
        if now > last + _GRACE:
            return Ended("silent")
        with writing(log):
            if log.stat().st_size > _LONGEST_LOG:
                return Ended("flood")


class _Events:
    """The events of one cell process, told as they come."""

    def __init__(self, descriptor: int, tell: Callable[[Event], None]):
        self._descriptor, self._tell, self._rest = descriptor, tell, b""
        self.open = True

    def waiting(self, timeout: float = 0) -> bool:
        """Whether there is something to read, or the end of it, within `timeout` seconds."""
        return self.open and bool(select.select([self._descriptor], [], [], timeout)[0])

    def read(self, timeout: float) -> None:
        """Tell what comes within `timeout` seconds. Raises `ValueError` for what is no event."""
        if not self.waiting(timeout):
            return
        chunk = os.read(self._descriptor, 1 << 20)
        self.open = bool(chunk)  # else the process has closed its end; it may take its time to go
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_EVENT:
            raise ValueError("a line without end")
        for line in lines:
            self._tell(Event.parse(line))
