"""The process that cells are forked from: it imports once, then each cell starts in milliseconds instead of seconds.

    python -P -m ddbench.benchmark.processes.fork_server FD MODULE

(-P: the folder `datasets` must not shadow the package of that name.) It imports MODULE, calls its `preload()`, and does
nothing else: no thread, no CUDA context, no random number, no tensor. So a cell is as fresh as a new interpreter would be.
Over the Unix socket FD it gets three descriptors per cell (job, log, events) and answers with the cell's process id and,
when that has ended, its exit code, a line each. The cell runs `MODULE.main()` as the leader of a session of its own, with
the job on stdin, stdout and stderr in the log, and the events under the number FD.
"""

import gc
import importlib
import os
import signal
import socket
import sys


def main(descriptor: int, module: str) -> None:
    control = socket.socket(fileno=descriptor)
    target = importlib.import_module(module)
    target.preload()
    gc.collect()
    gc.freeze()  # what was imported stays; collections in the cells then leave its pages shared and take no time
    while descriptors := socket.recv_fds(control, 1, 3)[1]:
        pid = os.fork()
        if pid == 0:
            become_cell(control.detach(), *descriptors)
            target.main()
            return
        for each in descriptors:
            os.close(each)
        control.sendall(b"%d\n" % pid)
        control.sendall(b"%d\n" % end_of(pid))


def become_cell(control: int, job: int, log: int, events: int) -> None:
    """Put the descriptors where a cell expects them; the socket itself is gone then."""
    os.setsid()
    for old, new in ((job, 0), (log, 1), (log, 2), (events, control)):
        os.dup2(old, new)
    for each in (job, log, events):
        os.close(each)


def end_of(pid: int) -> int:
    """Wait for a cell, kill whatever it has started and left behind, and return its exit code."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # as long as it is not collected, its group's number is its own
    os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
