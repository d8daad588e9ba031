"""Every way a cell can fail has a status and a reason of one line."""

import errno

import pytest
import torch

from ddbench.benchmark.machine.outcome import classify, classify_exit
from ddbench.core.errors import Diverged, Unsupported, UserError


def raised(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unsupported("no\nsense"), "unsupported", "no sense"),
        (Diverged("loss is nan"), "diverged", "loss is nan"),
        (UserError("file x is missing"), "failed", "file x is missing"),
        (MemoryError(), "oom", "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom", "CUDA out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom", "DefaultCPUAllocator: can't allocate memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom", "[Errno 12] Cannot allocate memory"),
        (RuntimeError("can't start new thread"), "oom", "can't start new thread"),
        (RuntimeError("could not create a primitive"), "oom", "could not create a primitive"),
        (raised(KeyError("x"), MemoryError()), "oom", "'x'"),
        (RuntimeError("shapes\n  differ"), "failed", "RuntimeError: shapes differ (see logs/a.log)"),
    ],
)
def test_exceptions(error, status, reason):
    assert classify(error, "logs/a.log") == (status, reason)


@pytest.mark.parametrize("words", ["terminate called after throwing an instance of 'std::bad_alloc'", "Cannot allocate memory"])
def test_a_process_whose_last_words_tell_of_memory(words):
    assert classify_exit(-6, "logs/a.log", words) == (
        "oom", "the process was killed by SIGABRT for want of memory (see logs/a.log)",
    )  # fmt: skip
    assert classify_exit(-11, "logs/a.log", "")[0] == "failed"


def test_a_crash_in_a_limited_address_space_is_want_of_memory():
    words = "Fatal Python error: Segmentation fault\n\nthe address space of this process was limited to 4000 MiB (ulimit -v)\n"
    status, reason = classify_exit(-11, "logs/a.log", words)
    assert status == "oom"
    assert "SIGSEGV with 4000 MiB of address space" in reason
    assert classify_exit(1, "logs/a.log", words)[0] == "failed"


def test_long_messages_are_cut():
    assert len(classify(UserError("x" * 1000), "log")[1]) == 300


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (-9, "oom", "SIGKILL"),
        (-7, "failed", "disk of the feature cache"),
        (-11, "failed", "SIGSEGV"),
        (0, "failed", "exit code 0"),
    ],
)
def test_ends_of_processes(code, status, words):
    found, reason = classify_exit(code, "logs/a.log")
    assert found == status
    assert words in reason
