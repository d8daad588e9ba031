"""From an exception, or the end of a process, to a row: status and a reason of one line."""

import signal
import traceback

import torch

from ...core.errors import Diverged, Unsupported, UserError

_LONGEST = 300  # characters of a reason; the log has the rest
_CPU_OOM = ("can't allocate memory", "DefaultCPUAllocator", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


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
    """torch tells GPU memory by a type of its own, and CPU memory by a RuntimeError with a text."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_OOM)


def classify_exit(returncode: int, log: str) -> tuple[str, str]:
    """Status and reason of a process that ended without reporting all of its evaluations."""
    if returncode == -signal.SIGKILL:
        return "oom", "the process was killed by SIGKILL; the kernel does this when memory runs out"
    if returncode == -signal.SIGBUS:
        return "failed", f"the process was killed by SIGBUS; the disk of the feature cache may be full (see {log})"
    if returncode < 0:
        return "failed", f"the process was killed by {_signal_name(-returncode)} (see {log})"
    return "failed", f"the process ended with exit code {returncode} before it had finished (see {log})"


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
