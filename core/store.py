"""A content-addressed store of memory-mapped arrays: feature banks and decoded images.

`<root>/<first two of key>/<key>.npy` beside `<key>.json`. An entry appears complete or not at all, and ends with a checksum of
its array, which the first reader of a process compares. One that is damaged counts as absent and is thrown away, with a line in
the log, so that it is made again.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from .disk import Replacement, checksum, replacing, settle
from .errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_NO_RESERVATION = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that cannot set space aside
_MARK = b"\nddcrc32:"  # before the eight hexadecimal digits that end an entry
_TRAILER = len(_MARK) + 8

_settled: set[Path] = set()  # stores that this process has cleaned
_log = logging.getLogger(__name__)
_compared: set[tuple[str, int, int, int]] = set()  # files of this process whose checksum was right: path, inode, size, time


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

    def get(self, key: str, shape: tuple[int, ...] | None = None, dtype: Any = None) -> np.memmap | None:
        """The array at `key`, memory-mapped read-only, or None; also where it is damaged, or of another shape or type."""
        file = self._file(key)
        if not os.path.lexists(file):
            return None
        seen = None
        try:
            with file.open("rb") as opened:  # what is put in its place meanwhile is another file
                seen = os.fstat(opened.fileno())
                array = _mapped(opened)
                fault = _fault(opened, seen, array)
        except (OSError, ValueError, LookupError) as error:
            return self._discard(file, seen, f"cannot be read: {' '.join(str(error).split())}")
        if fault is None and shape is not None and array.shape != shape:
            fault = f"has the shape {array.shape} where {shape} is expected"
        if fault is None and dtype is not None and array.dtype != dtype:
            fault = f"holds {array.dtype} where {np.dtype(dtype)} is expected"
        return array if fault is None else self._discard(file, seen, fault)

    @contextlib.contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.memmap]:
        """A writable array that becomes the entry `key` when the block ends without an error.

        Raises `UserError` where the folder cannot be written or has no room for the whole array; errors of the block pass.
        """
        self._settle()
        with self._explained():
            replacement = Replacement(self._file(key))
        try:
            with self._explained():
                array = np.lib.format.open_memmap(replacement.new, mode="w+", dtype=dtype, shape=shape)
                _reserve(replacement.new, array.offset + array.nbytes + _TRAILER)
            yield array
            with self._explained():
                array.flush()
                with replacement.new.open("r+b") as opened:
                    opened.seek(array.offset + array.nbytes)
                    opened.write(_MARK + b"%08x" % checksum(array))
                replacement.commit()
        finally:
            replacement.close()

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by the one process, of all that share the folder, that makes the entry `key`; the others wait for it. The system
        gives it up with its holder. Where files cannot be locked, or the folder cannot be written, nobody waits."""
        file = self._file(key).with_suffix(".making")
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_held(file))
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    file.unlink()  # while it is held; whoever waits for it finds the entry, or takes a new file

    def meta(self, key: str) -> dict[str, Any]:
        """The facts noted beside `key`, empty where there are none."""
        try:
            facts = json.loads(self._file(key).with_suffix(".json").read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def annotate(self, key: str, facts: dict[str, Any]) -> None:
        """Add JSON-ready `facts` to those beside `key`."""
        with self._explained(), replacing(self._file(key).with_suffix(".json")) as new:
            new.write_text(json.dumps({**self.meta(key), **facts}))

    def _settle(self) -> None:
        """Remove what killed writers left anywhere in the store, once in a process."""
        if self.root not in _settled:
            _settled.add(self.root)
            for folder in {left.parent for left in self.root.glob("*/*.partial")}:
                settle(folder)

    def _file(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.npy"

    def _discard(self, file: Path, seen: os.stat_result | None, fault: str) -> None:
        """Throw away what is in the place of an entry, so that it is made again; `seen`: the file that has the fault."""
        _log.warning("cache entry %s %s; it is thrown away and made again", file, fault)
        with contextlib.suppress(OSError):  # in a folder that cannot be written: making it again says so
            if seen is not None and not os.path.samestat(seen, file.stat()):
                return  # somebody has made it again
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()

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


def _held(file: Path) -> IO[bytes]:
    """The file, locked, and no other than the one that lies there: its holder before may have removed it."""
    while True:
        opened = file.open("wb")
        try:
            if fcntl is None:
                return opened
            fcntl.flock(opened, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(opened.fileno()), file.stat()):
                    return opened
        except BaseException:
            opened.close()
            raise
        opened.close()


def _mapped(opened: IO[bytes]) -> np.memmap:
    """The array of an open .npy file, as `np.load` maps it. Raises `ValueError` and the like for other files."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(opened)](opened)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return np.memmap(opened, dtype, "r", opened.tell(), shape, "F" if fortran else "C")


def _fault(opened: IO[bytes], seen: os.stat_result, array: np.memmap) -> str | None:
    """What is wrong with an entry, or None. A file is read through once in a process."""
    known = (opened.name, seen.st_ino, seen.st_size, seen.st_mtime_ns)
    if known in _compared:
        return None
    if seen.st_size != array.offset + array.nbytes + _TRAILER:
        return "is truncated, or from an earlier version of ddbench"
    opened.seek(-_TRAILER, os.SEEK_END)
    if opened.read() != _MARK + b"%08x" % checksum(array):
        return "is damaged: its content is not what was written"
    _compared.add(known)
    return None


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
