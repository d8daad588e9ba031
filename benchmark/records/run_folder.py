"""The run folder: made and tried before anything is written, and written by one process at a time.

OUT/records.jsonl       one line per evaluation
OUT/sets/NAME/          distilled sets, see `set_name`
OUT/checkpoints/HASH/   where a distillation that was cut short goes on
OUT/logs/HASH.log       what a cell process printed
"""

import contextlib
import errno
import glob
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX: run folders are not guarded there
    fcntl = None

LOCK = ".lock"
_POLL = 0.05  # seconds between two tries to get the lock
_LEFT_BEHIND = (".write-probe-*", "sets/.*.[0-9]*[0-9]")  # the second as earlier versions named them


def prepare(out: Path, option: str = "--out") -> Path:
    """Make the folders and check that files can be written; returns `out` as an absolute path. Raises `UserError`."""
    try:
        out = Path(out).absolute()
        probe = out / f".write-probe-{os.getpid()}"
        for folder in (out, out / "sets", out / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"ddbench")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name
        raise _refused(out, error, option) from error
    return out


def check_place(out: Path, option: str = "--out") -> None:
    """Raise the `UserError` of `prepare`, as far as it can be told without making anything: before a dry run, or before what
    takes longer is imported."""
    try:
        place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _refused(out, error, option) from error


def _refused(out: Path, error: Exception, option: str) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"cannot write to {out}: {reason}; choose another folder with {option}")


@contextlib.contextmanager
def locked(out: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a run folder, which everything that writes there holds. The kernel drops it with the process, so a
    killed run leaves no stale lock behind. What killed runs left half-written is removed.

    Raises `UserError` if another process holds it for more than `wait` seconds.
    """
    try:
        descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {out / LOCK}: {error.strerror}; remove it, or choose another folder") from error
    try:
        if fcntl is not None:
            _lock(descriptor, out, time.monotonic() + wait)
        with contextlib.suppress(OSError):  # the process id is for people only; a full disk is reported by the first record
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        remove_leftovers(out)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[union-attr]
            return
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(_POLL)
                continue
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UserError(f"{out} is in use by another run (process {holder}); wait for it or use another --out") from None
        except OSError:  # a file system without locks
            return


def remove_leftovers(out: Path) -> None:
    """Settle what killed writers left half-written in a run folder whose lock is held."""
    from ...core.disk import settle  # imports torch, which reading records does not need

    for folder in (out / "sets", *out.glob("checkpoints/*")):
        settle(folder)
    for path in (path for pattern in _LEFT_BEHIND for path in out.glob(pattern)):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_folder(out: Path, record: Mapping[str, Any]) -> Path:
    """Where the set of a record (or of a cell, by the same names) lies in the run folder `out`. Older sets are called by their
    whole hash, or by a name that the suite gave the backbone; they are found by the hash."""
    sets, code = out / "sets", record["cell_hash"]
    if not (folder := sets / set_name(record)).is_dir():
        older = [sets / code, *sorted(sets.glob(f"*-{glob.escape(code[:8])}"))]
        return next((found for found in older if found.is_dir()), folder)
    return folder


def set_name(record: Mapping[str, Any]) -> str:
    """`clpdd-mini_vit_mae-ipc1-s0-1a2b3c4d`: method, distil backbone, IPC, seed, and the first digits of the cell's hash. Names
    that a suite gives play no part: they may change between two runs of one cell."""
    shown = (record["distill_backbone"] or "").partition("[")[0]
    budget = "all" if record["ipc"] is None else f"ipc{record['ipc']}"
    parts = (record["method"], shown, budget, f"s{record['distill_seed']}", record["cell_hash"][:8])
    return "-".join(re.sub(r"[^\w.+]+", "_", part)[:40] for part in parts if part)
