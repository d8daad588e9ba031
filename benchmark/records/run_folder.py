"""The run folder: made and tried before anything runs, and used by one run at a time.

OUT/records.jsonl       one line per evaluation
OUT/sets/HASH/          distilled sets
OUT/checkpoints/HASH/   where a distillation that was cut short goes on
OUT/logs/HASH.log       what a cell process printed
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ...core.errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX: run folders are not guarded there
    fcntl = None

LOCK = ".lock"


def prepare(out: Path) -> None:
    """Make the folders and check that files can be written. Raises `UserError`."""
    probe = out / ".write-probe"
    try:
        for folder in (out, out / "sets", out / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"ddbench")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        raise UserError(f"cannot write to {out}: {error.strerror or error}; choose another folder with --out") from error


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of a run folder. The kernel drops it with the process, so a killed run leaves no stale lock behind.

    Raises `UserError` if another process holds it.
    """
    descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise UserError(
                    f"{out} is in use by another run (process {holder}); wait for it or use another --out"
                ) from None
            except OSError:  # a file system without locks
                pass
        with contextlib.suppress(OSError):  # the process id is for people only; a full disk is reported by the first record
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
