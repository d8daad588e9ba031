"""A content-addressed store of memory-mapped arrays: feature banks and decoded images.

`<root>/<first two of key>/<key>.npy` beside `<key>.json`. An entry appears complete or not at all; a file whose size does
not match its header counts as absent.
"""

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import UserError

_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_NO_RESERVATION = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that cannot set space aside
_ABANDONED = 24 * 3600  # seconds without a write, after which a partial file of a killed process is removed


def default_cache() -> Path:
    """DDBENCH_CACHE, or `ddbench` in the user's cache folder."""
    if folder := os.environ.get("DDBENCH_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddbench"


class Rows(Protocol):
    """What an entry is written to, as an array; nothing can be read back."""

    def __setitem__(self, where: Any, values: Any, /) -> None: ...


@dataclass(frozen=True)
class ArrayStore:
    """Arrays by key (a sha256 hex string). Two processes may write the same key; the last one wins, both are complete."""

    root: Path

    def get(self, key: str) -> np.memmap | None:
        """The array at `key`, memory-mapped read-only, or None."""
        file = self._file(key)
        try:
            array = np.lib.format.open_memmap(file, mode="r")
            complete = file.stat().st_size == array.offset + array.nbytes
        except (OSError, ValueError):
            return None
        return array if complete else None

    @contextlib.contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.memmap]:
        """A writable array that becomes the entry `key` when the block ends without an error.

        Raises `UserError` where the folder cannot be written or has no room for the whole array; errors of the block pass.
        """
        file = self._file(key)
        partial = self._partial(file)
        try:
            with self._explained():
                file.parent.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(file)
                array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
                _reserve(partial, array.offset + array.nbytes)
            yield array
            with self._explained():
                array.flush()
                _fsync(partial)
                os.replace(partial, file)
        finally:
            _remove(partial)

    def meta(self, key: str) -> dict[str, Any]:
        """The facts noted beside `key`, empty where there are none."""
        try:
            return json.loads(self._file(key).with_suffix(".json").read_text())
        except (OSError, ValueError):
            return {}

    def annotate(self, key: str, facts: dict[str, Any]) -> None:
        """Add JSON-ready `facts` to those beside `key`."""
        file = self._file(key).with_suffix(".json")
        partial = self._partial(file)
        try:
            with self._explained():
                file.parent.mkdir(parents=True, exist_ok=True)
                partial.write_text(json.dumps({**self.meta(key), **facts}))
                _fsync(partial)
                os.replace(partial, file)
        finally:
            _remove(partial)

    def _file(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.npy"

    @staticmethod
    def _partial(file: Path) -> Path:
        """A name of this process and call; the token tells apart threads, and machines that share the folder."""
        return file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL_OR_CLOSED:
                raise
            reason = str(error.strerror).lower()
            cure = "free some space, or set DDBENCH_CACHE to another folder"
            raise UserError(f"cannot write the cache folder {self.root}: {reason}; {cure}") from error


def _reserve(file: Path, size: int) -> None:
    """Take the disk space now: without it, a full disk kills the process (SIGBUS) at some write through the map."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with file.open("r+b") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVATION:
                raise


def _fsync(file: Path) -> None:
    """On the disk before the rename, so that no crash leaves a complete name on incomplete content."""
    with file.open("r+b") as opened:
        os.fsync(opened.fileno())


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):  # renamed, never created, or in a folder that cannot be written
        partial.unlink()


def _remove_abandoned(file: Path) -> None:
    for partial in file.parent.glob(f"{file.name}.*.partial"):
        with contextlib.suppress(OSError):  # its writer finished or removed it
            if time.time() - partial.stat().st_mtime > _ABANDONED:
                partial.unlink()
