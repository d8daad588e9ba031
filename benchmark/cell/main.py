"""One cell in a process of its own: load, distil (or re-use the stored set), evaluate. Forked by host.py.

The job comes as one line of JSON on stdin; events leave as lines of JSON through the file descriptor that the job names:
`environment`, `phase`, `step`, `evaluation` (which one starts) and `record` (one per evaluation, as soon as it is
finished). stdout and stderr are the cell's log. When stdin closes, the parent is gone and the process ends.
"""

import faulthandler
import gc
import importlib
import json
import os
import sys
from typing import Any

import torch

from ...core.backbone import BACKBONES
from ...core.data import DATASETS
from ...core.method import METHODS, PROTOCOLS
from ..machine.determinism import make_deterministic
from ..processes.job import end_with_parent, read_job
from ..records.records import jsonable
from .cell_run import CellRun


class Events:
    """Lines of JSON to the parent; a parent that is gone ends the process."""

    def __init__(self, descriptor: int):
        os.set_inheritable(descriptor, False)  # what the cell starts must not keep the pipe open
        self._descriptor = descriptor

    def emit(self, event: str, **facts: Any) -> None:
        line = memoryview((json.dumps(jsonable({"event": event, **facts})) + "\n").encode())
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            os._exit(1)


def preload() -> None:
    """Import what cells need and what takes seconds."""
    for registry in (METHODS, BACKBONES, DATASETS, PROTOCOLS):
        registry.names()
    importlib.import_module("timm")


def main() -> None:
    faulthandler.enable()  # a crash in native code leaves a Python traceback in the log
    job = read_job()
    end_with_parent()
    events = Events(job["event_fd"])
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    make_deterministic(job["cell"]["device"])
    for plugin in job["plugins"]:
        METHODS.load_file(plugin)
    CellRun(job, events.emit).run()
    gc.unfreeze()  # native libraries complain in the log about objects that are never collected
    sys.stdout.flush()
