"""A content-addressed store of memory-mapped arrays: feature banks and decoded images.

`<root>/<first two of key>/<key>.npy` beside `<key>.json`. An entry appears complete or not at all; a file whose size does
not match its header counts as absent.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOTDIR)


def default_cache() -> Path:
    """DDBENCH_CACHE, or `ddbench` in the user's cache folder."""
    if folder := os.environ.get("DDBENCH_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddbench"


@dataclass(frozen=True)
class ArrayStore:
    """Arrays by key (a sha256 hex string). Two processes may write the same key; the last one wins, both are complete."""

    root: Path

    def get(self, key: str) -> np.memmap | None:
        """The array at `key`, memory-mapped read-only, or None."""
        try:
            return np.lib.format.open_memmap(self._file(key), mode="r")
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def create(self, key: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.memmap]:
        """A writable array that becomes the entry `key` when the block ends without an error."""
        file = self._file(key)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
            yield array
            array.flush()
            _sync(partial)
            os.replace(partial, file)
        except OSError as error:
            if error.errno in _NOT_WRITABLE:
                raise UserError(
                    f"cannot write the cache {self.root}: {error.strerror}; free space or set DDBENCH_CACHE to another folder"
                ) from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def meta(self, key: str) -> dict[str, Any]:
        """The entry's JSON sidecar; empty where there is none."""
        try:
            return json.loads(self._file(key).with_suffix(".json").read_text())
        except (OSError, json.JSONDecodeError):
            return {}

    def annotate(self, key: str, facts: dict[str, Any]) -> None:
        """Add `facts` to the entry's JSON sidecar."""
        file = self._file(key).with_suffix(".json")
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({**self.meta(key), **facts}))
        os.replace(partial, file)

    def _file(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.npy"


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
