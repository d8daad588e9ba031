"""Files and folders on disk: complete or not at all, checked when they are read, and one line where the disk refuses.

What is being written lies in a folder `.NAME.XXXXXXXX.partial` beside its place, which holds a lock for as long as its writer
lives; so the next one to write there can tell what a killed writer left from what another is at.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from .errors import DiskError

if TYPE_CHECKING:  # tables and refusals read records, which need no torch
    import numpy as np
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARTIAL, _LOCK, _NEW, _OLD = ".partial", ".lock", "new", "old"
_ABANDONED = 24 * 3600  # seconds without a write, after which a partial file counts as left behind where no lock tells
_CHECKSUM = "crc32"  # in the metadata of a safetensors file
_BYTES = 1 << 26  # that are summed up at a time


class Damaged(ValueError):
    """A file that is not what was written: the message says why."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """The block writes `path`. Raises `DiskError` where the disk is full or refuses."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DiskError(refusal(path, error)) from error


def refusal(path: Path, error: OSError | SafetensorError) -> str:
    """One line on why `path` could not be written. safetensors tells the system's error number in its text only."""
    if isinstance(error, OSError):
        full, reason = error.errno in _FULL, error.strerror or str(error)
    else:
        full, reason = any(f"(os error {number})" in str(error) for number in _FULL), str(error)
    return f"the disk is full while writing {path}" if full else f"cannot write {path}: {reason}"


class Replacement:
    """A new file or folder on its way to `target`: written at `new`, put in place by `commit`, and gone after `close`."""

    def __init__(self, target: Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        settle(target.parent)
        self.target = target
        self._folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent))
        self.new = self._folder / _NEW
        try:
            self._lock = _hold(self._folder)
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def commit(self) -> None:
        """Put it in place, durably. A folder takes the place of the old one in two steps, between which `settle` can go on."""
        _fsync(self.new)
        if self.target.is_dir():
            _fsync(self._folder)
            os.replace(self.target, self._folder / _OLD)
        os.replace(self.new, self.target)
        sync_folder(self.target.parent)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Where the block writes a file or folder that becomes `target` when the block ends without an error."""
    replacement = Replacement(target)
    try:
        yield replacement.new
        replacement.commit()
    finally:
        replacement.close()


def settle(folder: Path) -> None:
    """Remove what killed writers left in `folder`; where one died between taking an old folder away and putting the new one in
    its place, put it there."""
    for left in folder.glob(f"*{_PARTIAL}"):
        lock = _abandoned(left)
        if lock is None:
            continue
        with contextlib.suppress(OSError):
            target = folder / left.name.rsplit(".", 2)[0].removeprefix(".")
            if (left / _OLD).exists() and not target.exists():
                os.replace(left / _NEW, target)
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:  # as earlier versions left them
            left.unlink(missing_ok=True)
        if lock >= 0:
            os.close(lock)


def _hold(folder: Path) -> int | None:
    """Take the lock of a new partial folder, which the system gives up when the process ends; None where there are no locks."""
    if fcntl is None:
        return None
    lock = os.open(folder / f"{_LOCK}ing", os.O_CREAT | os.O_RDWR, 0o666)
    with contextlib.suppress(OSError):  # a file system without locks: age decides
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(folder / f"{_LOCK}ing", folder / _LOCK)  # seen by others only once it is held
    return lock


def _abandoned(left: Path) -> int | None:
    """The lock of a partial folder whose writer is gone, now held here (-1: there is none); None if it may be alive."""
    try:
        if fcntl is not None and (left / _LOCK).is_file():
            lock = os.open(left / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return None
            else:
                return lock
        return -1 if time.time() - left.stat().st_mtime > _ABANDONED else None
    except OSError:  # its writer or another one removed it
        return None


def _fsync(path: Path) -> None:
    """On the disk before it gets its name, so that no crash leaves a full name on incomplete content; of a folder its files,
    not the folders in it."""
    for file in [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]:
        with file.open("r+b") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError` where the disk refuses."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot
            raise
    finally:
        os.close(opened)


def checksum(array: "np.ndarray", start: int = 0) -> int:
    """crc32 of the bytes of a contiguous array, part by part; `start` is that of what comes before."""
    content = array.reshape(-1).view("uint8")
    for first in range(0, len(content), _BYTES):
        start = zlib.crc32(content[first : first + _BYTES].data, start)
    return start


def _tensors_checksum(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> str:
    """crc32 of names, types, shapes and values of tensors, and of the other metadata."""
    import torch

    total = zlib.crc32(json.dumps({key: metadata[key] for key in sorted(metadata) if key != _CHECKSUM}).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = checksum(tensor.reshape(-1).view(torch.uint8).numpy(), total)
    return f"{total:08x}"


def write_tensors(file: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
    """A safetensors file that `read_tensors` can check, in a folder that is being written."""
    from safetensors.torch import save_file

    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.touch()
    mode = file.stat().st_mode  # what new files have here; safetensors writes one that only its owner may read
    save_file(content, file, {**metadata, _CHECKSUM: _tensors_checksum(content, metadata)})
    file.chmod(mode)


def save_tensors(file: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
    """Replace `file` by a safetensors file, durably and in one go.

    Raises `DiskError`; the old file is then still there.
    """
    with writing(file), replacing(file) as new:
        write_tensors(new, tensors, metadata)


def read_tensors(file: Path, *, unchecked: bool = False) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and metadata of a safetensors file that `write_tensors` made. Raises `Damaged`; a file without a checksum is
    damaged too unless `unchecked` says that there may be none."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{file.name} cannot be read, it may be truncated: {error}") from error
    wanted = metadata.pop(_CHECKSUM, None)
    if wanted != _tensors_checksum(tensors, metadata) and not (wanted is None and unchecked):
        raise Damaged(f"{file.name} was damaged or changed after it was written")
    return tensors, metadata
