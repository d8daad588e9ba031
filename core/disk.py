"""Tensors on disk: complete or not at all, and one line where the disk refuses."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from .errors import DiskError

if TYPE_CHECKING:
    from torch import Tensor

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def save_tensors(file: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str]) -> None:
    """Replace `file` by a safetensors file, durably and in one go; one writer at a time.

    Raises `DiskError`; the old file is then still there.
    """
    from safetensors.torch import save_file  # tables read records, which need no torch

    partial = file.with_name(f".{file.name}.partial")  # what a kill leaves behind, the next save replaces
    try:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, file)
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            partial.unlink()
