"""Devices that run cells, and one cell process: forked, followed, and ended when done, late or no longer wanted."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..machine.measure import clock

HOST = (sys.executable, "-P", "-m", "ddbench.benchmark.processes.fork_server")
CELL = "ddbench.benchmark.cell.main"  # the module that a cell process runs
_POLL = 0.2  # seconds between looks at the clock and at `stop`
_GRACE = 10.0  # seconds that a process may take to end after its last event


@dataclass(frozen=True)
class Slot:
    """A device that runs one cell at a time."""

    label: str  # as in the records: cpu, cuda, cuda:1
    environment: dict[str, str]  # added to that of the cell processes


def slots(kind: str) -> list[Slot]:
    """One slot for the CPU, one per visible GPU for CUDA."""
    common = {"PYTHONHASHSEED": "0"}
    if kind == "cpu":
        return [Slot("cpu", {**common, "CUDA_VISIBLE_DEVICES": ""})]
    common["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    if len(ids) == 1:
        return [Slot("cuda", {**common, "CUDA_VISIBLE_DEVICES": ids[0]})]
    return [Slot(f"cuda:{index}", {**common, "CUDA_VISIBLE_DEVICES": name}) for index, name in enumerate(ids)]


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    returncode: int
    timed_out: bool = False
    stopped: bool = False


class Host:
    """The process that the cells of one slot are forked from (host.py), one cell at a time.

    It starts with the first cell, and again if it has died.
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

    def fork(self, job: int, log: int, events: int) -> int:
        """Ask for a cell with these descriptors. Returns the number under which it will find `events`."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._start(log)
        self._answers = []
        socket.send_fds(self._control, [b"."], [job, log, events])
        return self._events

    def exit_code(self, timeout: float | None) -> int | None:
        """The exit code of the cell, or None if it still runs after `timeout` seconds (None: wait for it)."""
        while len(self._answers) < 2:
            if not select.select([self._control], [], [], timeout)[0]:
                return None
            lines = self._control.recv(64).split()
            if not lines:  # the host is dead, and the cell with it; for want of memory, more often than not
                self._answers = [0, -signal.SIGKILL]
            self._answers += map(int, lines)
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
        """End the host. A cell that it has forked ends too, when its stdin closes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._control.close()

    def _start(self, log: int) -> None:
        self._control, theirs = socket.socketpair()
        self._events = theirs.fileno()
        self._process = subprocess.Popen(
            (*HOST, str(self._events), CELL),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **self._environment},
            pass_fds=[self._events],
            start_new_session=True,
        )
        theirs.close()


def launch(
    job: dict[str, Any],
    *,
    host: Host,
    log: Path,
    timeout: float | None,
    on_event: Callable[[dict[str, Any]], None],
    stop: threading.Event,
) -> Ended:
    """Run one job to its end, in a process of its own that is dead afterwards, with all that it has started."""
    deadline = None if timeout is None else clock() + timeout
    (job_out, job_in), (events_out, events_in) = os.pipe(), os.pipe()
    try:
        try:
            with log.open("ab") as stream:
                number = host.fork(job_out, stream.fileno(), events_in)
        finally:
            os.close(job_out)
            os.close(events_in)
        with suppress(BrokenPipeError), open(job_in, "wb", closefd=False) as pipe:  # it died while starting: see its exit code
            pipe.write(json.dumps({**job, "event_fd": number}).encode() + b"\n")
        return _follow(host, events_out, deadline, on_event, stop)
    finally:
        host.end_cell()
        os.close(job_in)  # it stayed open until here, because the process ends when its stdin closes
        os.close(events_out)


def _follow(
    host: Host,
    events: int,
    deadline: float | None,
    on_event: Callable[[dict[str, Any]], None],
    stop: threading.Event,
) -> Ended:
    rest, open_ended = b"", True
    while True:
        if stop.is_set():
            return Ended(-signal.SIGKILL, stopped=True)
        if deadline is not None and clock() > deadline:
            return Ended(-signal.SIGKILL, timed_out=True)
        if open_ended and select.select([events], [], [], _POLL)[0]:
            chunk = os.read(events, 1 << 20)
            if not chunk:  # the process has closed its end; it may take its time to go
                open_ended = False
                deadline = min(deadline or float("inf"), clock() + _GRACE)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_event(json.loads(line))
        elif (code := host.exit_code(0 if open_ended else _POLL)) is not None:
            return Ended(code)
