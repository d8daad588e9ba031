"""From an exception, or the end of a process, to a row: status and a reason of one line."""

import errno
import re
import signal
import traceback

import torch

from ...core.errors import Diverged, Unsupported, UserError

_LONGEST = 300  # characters of a reason; the log has the rest
_NO_MEMORY = (
    "can't allocate memory", "DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory", "can't start new thread", "could not create a primitive", "could not create a memory",
    "bad_alloc", "failed to map segment", "unable to mmap", "pthread_create failed",
)  # fmt: skip

_LIMITED = re.compile(r"address space of this process was limited to (\d+ MiB)")  # fork_server.py writes it
_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL)


def classify(error: BaseException, log: str) -> tuple[str, str]:
    """Status and reason of an exception; unforeseen ones point at `log`, where the traceback is."""
    text = _one_line(str(error))
    if isinstance(error, Unsupported):
        return "unsupported", text
    if isinstance(error, Diverged):
        return "diverged", text
    if is_out_of_memory(error):
        return "oom", text or "out of memory"
    if isinstance(error, UserError):
        return "failed", text
    return "failed", f"{type(error).__name__}: {text} (see {log})"


def is_out_of_memory(error: BaseException) -> bool:
    """torch tells GPU memory by a type of its own, and CPU memory by a RuntimeError with a text; so do the system, threads and
    libraries, in words of their own, where a limit of the process (`ulimit -v`) is reached. What follows from it counts too."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if isinstance(error, (RuntimeError, OSError, ImportError)) and any(text in str(error) for text in _NO_MEMORY):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_out_of_memory(cause)


def classify_exit(returncode: int, log: str, last_words: str = "") -> tuple[str, str]:
    """Status and reason of a process that ended without reporting all of its evaluations; `last_words` are the end of `log`."""
    if returncode == -signal.SIGKILL:
        return "oom", "the process was killed by SIGKILL; the kernel does this when memory runs out"
    if returncode != 0 and any(text in last_words for text in _NO_MEMORY):
        return "oom", f"{_end_of(returncode)} for want of memory (see {log})"
    if returncode in _CRASHES and (limit := _LIMITED.search(last_words)):
        return "oom", f"{_end_of(returncode)} with {limit[1]} of address space, so for want of it, it seems (see {log})"
    if returncode == -signal.SIGBUS:
        return "failed", f"the process was killed by SIGBUS; the disk of the feature cache may be full (see {log})"
    return "failed", f"{_end_of(returncode)}{'' if returncode < 0 else ' before it had finished'} (see {log})"


def _end_of(returncode: int) -> str:
    if returncode < 0:
        return f"the process was killed by {_signal_name(-returncode)}"
    return f"the process ended with exit code {returncode}"


def print_traceback(error: BaseException) -> None:
    """To stderr, which is the cell's log."""
    traceback.print_exception(error)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
