"""A run of ddbench, and the process that its cells are forked from, forked from one that has imported everything.

A new interpreter takes seconds of work, and a hundred runs as many minutes. What is left out, imports, is what the fresh runs
among them have, which are the command as a person gives it.
"""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ddbench.benchmark.cell.main import preload
from ddbench.benchmark.cli import main
from ddbench.benchmark.processes import fork_server, launcher

COMPLAINT = 4000  # characters of a program's output to show
OF_A_RUN = (  # what a run imports when it needs it
    "processes.runner", "processes.several_gpus", "suite.plan", "suite.overrides", "suite.suite", "report.first",
    "report.render", "report.tables", "report.gallery", "records.regression", "catalogue",
)  # fmt: skip


def import_everything() -> None:
    preload()
    for name in OF_A_RUN:
        importlib.import_module(f"ddbench.benchmark.{name}")


def become(log: int, work: Callable[[], int]) -> None:
    """What a process does that was just forked: `work`, with its output in the log and signals as a new program has them.
    Never returns."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for old, new in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Child:
    """A process that was forked from this one."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code. Raises `TimeoutExpired`."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer(Child):
    """In place of the `Popen` of launcher.py: the fork server, without its imports."""

    def __init__(self, command, *, env, stdout, **_):
        control, module, parent = int(command[-3]), command[-2], int(command[-1])
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.environ.update(env)
            become(stdout, lambda: self._serve(control, module, parent))

    @staticmethod
    def _serve(control: int, module: str, parent: int) -> int:
        os.closerange(3, control)
        os.closerange(control + 1, 256)
        fork_server.main(control, module, parent)
        return 0


class _WithForks:
    """The module `subprocess`, as launcher.py sees it in a forked run."""

    Popen = ForkServer

    def __getattr__(self, name: str):
        return getattr(subprocess, name)


class Running(Child):
    """A command of ours in a process of its own; `fresh`: a new interpreter."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str], fresh: bool, prepare: Callable[[], object] | None):
        self.log = log
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            opened = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.environ.update(env)
            become(opened, lambda: self._command(argv, fresh, prepare))

    def end(self, timeout: float = 1200) -> tuple[int, str]:
        """Exit code and output."""
        code = self.wait(timeout)
        text = self.log.read_text(errors="replace")
        return code or 0, text if len(text) <= COMPLAINT else f"… {text[-COMPLAINT:]}"

    @staticmethod
    def _command(argv: list[str], fresh: bool, prepare: Callable[[], object] | None) -> int:
        if prepare is not None:
            prepare()
        if fresh:
            os.execv(sys.executable, [sys.executable, "-P", "-m", "ddbench", *argv])
        tempfile.tempdir = None  # TMPDIR may be another one here
        launcher.subprocess = _WithForks()
        return main(argv)
