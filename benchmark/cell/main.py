"""One cell in a process of its own: load, distil (or re-use the stored set), evaluate. Forked by processes/fork_server.py.

The job comes on stdin and events leave through a descriptor of their own, as processes/job.py has them; stdout and stderr are
the cell's log. When stdin closes, the parent is gone and the process ends.
"""

import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import sys
from typing import Any

import torch

from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.method import METHODS, PROTOCOLS
from ..machine.determinism import make_deterministic
from ..processes.job import Event, end_with_parent, read_job
from .cell_run import CellRun
from .stop_request import StopRequest

_INTERRUPTED = 130  # exit code after a Ctrl-C, as shells have it


class Events:
    """Lines of JSON to the parent; a parent that is gone ends the process. So does telling anything in a process that a plugin
    has forked and let go on: that one is no cell."""

    def __init__(self, descriptor: int):
        os.set_inheritable(descriptor, False)  # what the cell starts must not keep the pipe open
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=self._abandon)

    def emit(self, kind: Any, **facts: Any) -> None:
        line = memoryview(Event(kind, **facts).to_line())
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:  # closed by the parent, by a fork, or by a plugin
            os._exit(1)

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1


def preload() -> None:
    """Import what cells need and what takes seconds."""
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        registry.names()
    importlib.import_module("timm")


def main(events: int) -> None:
    faulthandler.enable()  # a crash in native code leaves a Python traceback in the log
    stop, tell = StopRequest(), Events(events).emit
    signal.signal(signal.SIGINT, stop.handle)
    try:
        job = read_job()
        end_with_parent()
        if job.threads:
            torch.set_num_threads(job.threads)
        make_deterministic(job.cell.device)
        for plugin in job.plugins:
            METHODS.load_file(plugin)
        CellRun(job, tell, stop).run()
    except KeyboardInterrupt:
        tell("stopped", step=stop.saved_at)
        sys.exit(_INTERRUPTED)
    gc.unfreeze()  # native libraries complain in the log about objects that are never collected
