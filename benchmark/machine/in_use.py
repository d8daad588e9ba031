"""Whether another run works on the same device: every run holds a lock file per device in the cache folder while it lasts.

The kernel drops the locks of a killed process, and the boot identifier tells machines apart that share the folder but not
containers of one machine. Where files cannot be locked nothing is known, and nothing is claimed.
"""

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ...core.store import default_cache

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextlib.contextmanager
def present(run_id: str, devices: Iterable[str]) -> Iterator[None]:
    """Let other runs see this one on `devices` (values of CUDA_VISIBLE_DEVICES; empty: the CPU)."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            for device in devices:
                stack.enter_context(_held(_file(run_id, device)))
        yield


def in_use_by_others(run_id: str, device: str | None = None) -> bool | None:
    """Whether a run other than `run_id` holds `device` (default: that of this process); None where that cannot be known."""
    if fcntl is None:
        return None
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "") if device is None else device
    own = _file(run_id, device)
    try:
        return any(_is_held(file) for file in own.parent.glob(f"{own.name.partition('.')[0]}.*") if file != own)
    except OSError:
        return None


def _file(run_id: str, device: str) -> Path:
    """DEVICE-OF-A-MACHINE.RUN, without names of machines."""
    try:
        machine = _BOOT_ID.read_text()
    except OSError:
        machine = platform.node()
    place = hashlib.sha256(f"{machine}/{device}".encode()).hexdigest()[:16]
    return default_cache() / "running" / f"{place}.{run_id}"


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(file.open("w"))
        while fcntl is not None:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if _is_there(file, opened):
                break
            opened = stack.enter_context(file.open("w"))  # somebody took it for that of a dead run before it was locked
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink()


def _is_there(file: Path, opened: IO[str]) -> bool:
    """Whether the open file is the one of that name still."""
    try:
        return os.path.samestat(file.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def _is_held(file: Path) -> bool:
    """Whether the run of this file lives; the file of a dead one is removed."""
    assert fcntl is not None
    with contextlib.suppress(FileNotFoundError), file.open() as opened:  # it ended in this moment
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        file.unlink(missing_ok=True)
    return False
