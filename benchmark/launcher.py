"""Devices that run cells, and one cell process: started, followed, and ended when done, late or no longer wanted."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .measure import clock

COMMAND = (sys.executable, "-P", "-m", "ddbench.benchmark.cell")
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


def launch(
    job: dict[str, Any],
    *,
    log: Path,
    environment: dict[str, str],
    timeout: float | None,
    on_event: Callable[[dict[str, Any]], None],
    stop: threading.Event,
) -> Ended:
    """Run one job to its end. The process is the leader of a group of its own, which is killed as a whole."""
    reader, writer = os.pipe()
    deadline = None if timeout is None else clock() + timeout
    try:
        with log.open("ab") as stream:
            process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **environment},
                pass_fds=[writer],
                start_new_session=True,
            )
        job_line = json.dumps({**job, "event_fd": writer}).encode() + b"\n"
        os.close(writer)
        writer = -1
        try:
            _send(process, job_line)
            return _follow(process, reader, deadline, on_event, stop)
        finally:
            _kill_group(process)
            process.wait()
            if process.stdin:
                with suppress(OSError):
                    process.stdin.close()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def _send(process: subprocess.Popen, line: bytes) -> None:
    """The job; stdin stays open, because the process ends when it closes."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died while starting; its exit code tells
        process.stdin.write(line)
        process.stdin.flush()


def _follow(
    process: subprocess.Popen,
    reader: int,
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
        if open_ended and select.select([reader], [], [], _POLL)[0]:
            chunk = os.read(reader, 1 << 20)
            if not chunk:  # the process has closed its end; it may take its time to go
                open_ended = False
                deadline = min(deadline or float("inf"), clock() + _GRACE)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_event(json.loads(line))
        elif (code := _exit_code(process, wait=not open_ended)) is not None:
            return Ended(code)


def _exit_code(process: subprocess.Popen, wait: bool) -> int | None:
    try:
        return process.wait(timeout=_POLL if wait else 0)
    except subprocess.TimeoutExpired:
        return None


def _kill_group(process: subprocess.Popen) -> None:
    """Kill the process and whatever it started; the group may outlive its leader."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
