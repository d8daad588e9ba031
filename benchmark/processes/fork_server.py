"""The process that cells are forked from: it imports once, then each cell starts in milliseconds instead of seconds.

    python -P -m ddbench.benchmark.processes.fork_server FD MODULE PARENT

(-P: the folder `datasets` must not shadow the package of that name.) It imports MODULE, calls its `preload()`, and does
nothing else: no thread, no CUDA context, no random number, no tensor. So a cell is as fresh as a new interpreter would be.
Over the Unix socket FD it gets three descriptors per cell (job, log, events) and answers with the cell's process id and,
when that has ended, its exit code, a line each. The cell runs `MODULE.main(events)` as the leader of a session of its own,
with the job on stdin, stdout and stderr in the log.

On Linux nothing survives: the kernel kills this process with its PARENT and the cell with this process, even one that is
stopped or never returns from native code; and what a cell has started, in whatever session, is handed to this process when
its own parent ends, and is killed. (multiprocessing's fork server has neither, nor an environment and a log per device, and
runs the main module of the caller again.)
"""

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

_PATIENCE = 5.0  # seconds; a process that hangs in the kernel does not even end by SIGKILL
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


def main(descriptor: int, module: str, parent: int) -> None:
    end_with(parent, signal.SIGKILL)
    control = socket.socket(fileno=descriptor)
    target = importlib.import_module(module)
    target.preload()
    gc.collect()
    gc.freeze()  # what was imported stays; collections in the cells then leave its pages shared and take no time
    signal.signal(signal.SIGTERM, end_all)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    end_with(parent, signal.SIGTERM)
    while descriptors := socket.recv_fds(control, 1, 3)[1]:
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            become_cell(target, server, control.detach(), *descriptors)
        job, log, events = descriptors
        os.close(job)
        os.close(events)
        control.sendall(b"%d\n" % pid)
        control.sendall(b"%d\n" % end_of(pid, log))
        os.close(log)


def become_cell(target, server: int, control: int, job: int, log: int, events: int) -> None:
    """Put the descriptors where a cell expects them (the socket itself is gone then), and do its work. Never returns, nor waits
    for threads that the work has left behind."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        end_with(server, signal.SIGKILL)
        for old, new in ((job, 0), (log, 1), (log, 2), (events, control)):
            os.dup2(old, new)
        for each in (job, log, events):
            os.close(each)
        target.main(control)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def end_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends; end it here if it has ended already."""
    _prctl(_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def end_of(pid: int, log: int) -> int:
    """Wait for a cell, kill whatever it has started and left behind, and return its exit code."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # as long as it is not collected, its group's number is its own
    os.killpg(pid, signal.SIGKILL)
    note_limit(pid, log)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    end_children()
    return code


def note_limit(pid: int, log: int) -> None:
    """End the log of a cell with how much memory it was allowed, if there was a limit: native code that gets none crashes in
    ways that do not say so."""
    if sys.platform == "linux" and (limit := resource.prlimit(pid, resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            os.write(log, b"\nthe address space of this process was limited to %d MiB (ulimit -v)\n" % (limit >> 20))


def end_all(*_: object) -> None:
    """The run is gone."""
    end_children()
    os._exit(1)


def end_children() -> None:
    """Kill all children, and theirs, which become ours when their parents end."""
    end = time.monotonic() + _PATIENCE
    with contextlib.suppress(ChildProcessError):  # there are none
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.005)


def children() -> list[int]:
    """Process ids of the children of this process, from /proc; none where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:  # it ended in this moment
            continue
        if parent == os.getpid():
            found.append(int(stat.parent.name))
    return found


def _prctl(option: int, value: int) -> None:
    """Does nothing where there is no prctl: the end of stdin ends cells too, only later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
