"""Images in files: a dataset of many."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core.data import ImageData
from ..core.errors import UserError
from ._decode import Seen, look, named, square
from ._encoded import EncodedSplit, decoded_at, digest, each, encoded_data
from ._limits import Listing


@dataclass(frozen=True)
class StreamedImages:
    """Files decoded at each access, by a thread per core (Pillow releases the interpreter while it decodes)."""

    files: Sequence[Path]
    size: int
    background: str = "white"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return decoded_at(self, indices)

    def name(self, index: int) -> str:
        """SPLIT/CLASS/FILE, or what stands in their place."""
        return "/".join(self.files[index].parts[-3:])

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> list[Seen]:
        def one(k: int) -> Seen:
            out[k], seen = square(self.files[indices[k]], self.size, self.background)
            return seen

        return each(one, range(len(indices)))

    def content_key(self) -> str:
        return digest(each(file_digest, self.files), self.size)

    def stamp_key(self) -> str:
        """Of names and byte sizes, as reading all bytes would take long."""
        return digest(each(file_stamp, self.files), self.size)

    def look(self) -> list[Seen]:
        return each(look, self.files)

    def twin_keys(self) -> list[bytes]:
        """Of each file; equal for files of the same bytes, and for hardly any others. Reads the ends of each file only."""
        return each(_ends, self.files)

    def confirm(self, index: int) -> bytes:
        return bytes.fromhex(file_digest(self.files[index]))


def file_data(
    name: str,
    train: Listing,
    test: Listing,
    names: Sequence[str],
    size: int,
    memory_limit_gb: float,
    groups: Sequence[str] = (),
    background: str = "white",
    **told: Any,
) -> ImageData:
    """A dataset of image files; `groups` are the names of its groups, `told` goes to `encoded_data`."""
    first, second = (EncodedSplit(StreamedImages(x.files, size, background), x.labels, x.groups) for x in (train, test))
    return encoded_data(name, first, second, names, memory_limit_gb, groups, **told)


def file_digest(file: Path) -> str:
    with named(file, "cannot be read"), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _ends(file: Path) -> bytes:
    """Digest of a file's size, start and end."""
    with named(file, "cannot be read"), file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - _END))
        end = opened.read()
        opened.seek(0)
        return hashlib.blake2b(b"%d" % size + opened.read(_END) + end, digest_size=16).digest()


_END = 4096


def file_stamp(file: Path) -> str:
    with named(file, "cannot be read"):
        return f"{file.name}:{file.stat().st_size}"


def image_findings(files: list[Path]) -> Iterator[str]:
    """What `load` would say about each file that is missing or no image, the first few in full."""
    found = [finding for finding in each(_finding, files) if finding is not None]
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"{len(found) - _SHOWN:,} more images are missing or cannot be opened"


def _finding(file: Path) -> str | None:
    try:
        look(file)
    except UserError as error:
        return str(error)
    return None


_SHOWN = 20  # findings about single images; a disk that lost a folder has thousands
