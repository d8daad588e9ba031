"""Images in parquet shards as Hugging Face publishes them: columns `image` (struct with `bytes`) and `label`.

Shards are called SPLIT-00000-of-00294.parquet (huggingface.co/docs/hub/datasets-adding, and the files of ILSVRC/imagenet-1k).
pyarrow is imported only here and only when a set lies in parquet.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core.errors import UserError
from ._encoded import decoded_at, digest, each
from ._files import check_header, decode, file_stamp

_BYTES = "image.bytes"
_BLOCK = 512  # images read before they are decoded; each takes about 100 kB


def shards(folder: Path, split: str) -> list[Path]:
    """The shards of one split in order."""
    return sorted(folder.glob(f"{split}-*.parquet"))


def missing_shards(found: Sequence[Path]) -> list[str]:
    """Names of the shards that the names of those found promise: 00007-of-00294."""
    names = {file.name for file in found}
    parts = {m.groups() for name in names if (m := re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.parquet", name))}
    due = [f"{split}-{k:05}-of-{count}.parquet" for split, count in sorted(parts) for k in range(int(count))]
    return [name for name in due if name not in names]


def read_labels(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of a shard lie, `(n, 2)` as (row group, row within it), and their labels `(n,)` int64."""
    with _opened(file) as shard:
        for column in (_BYTES, "label"):
            if column not in (held := [shard.metadata.schema.column(k).path for k in range(shard.metadata.num_columns)]):
                raise UserError(f"parquet file {file} has no column {column!r}, only {', '.join(held)}")
        labels = shard.read(columns=["label"]).column("label").to_numpy().astype(np.int64)
        sizes = [shard.metadata.row_group(k).num_rows for k in range(shard.metadata.num_row_groups)]
    places = [np.stack([np.full(size, k), np.arange(size)], 1) for k, size in enumerate(sizes)]
    return np.concatenate([np.empty((0, 2), int), *places]), labels


def read_images(file: Path, group: int, rows: Sequence[int]) -> list[bytes]:
    """The encoded images of some rows of one row group."""
    with _opened(file) as shard:
        column = shard.read_row_group(group, columns=[_BYTES]).flatten().column(_BYTES)
        return [column[row].as_py() or b"" for row in rows]


@dataclass(frozen=True)
class ParquetImages:
    """Rows of parquet shards, read by row group and decoded at each access, by a thread per core."""

    files: Sequence[Path]
    places: np.ndarray  # (n, 3): file, row group, row within the row group
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return decoded_at(self, indices)

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> None:
        def one(item: tuple[int, bytes]) -> None:
            k, encoded = item
            out[k] = decode(io.BytesIO(encoded), self.size, self._name(indices[k]))

        for start in range(0, len(indices), _BLOCK):
            block = indices[start : start + _BLOCK]
            each(one, [(start + k, encoded) for k, encoded in self._read(block)])

    def content_key(self) -> str:
        """Of the shards' names and byte sizes: the bytes of a subset are spread over all shards, which takes hours to read."""
        places = hashlib.sha256(self.places.astype("<i8").tobytes()).hexdigest()
        return digest([*each(file_stamp, self.files), places], self.size)

    stamp_key = content_key

    def check_headers(self) -> None:
        """Opens the first image of every shard."""
        _, firsts = np.unique(self.places[:, 0], return_index=True)
        for k, encoded in self._read(firsts.tolist()):
            check_header(io.BytesIO(encoded), self._name(int(firsts[k])))

    def _read(self, indices: Sequence[int]) -> list[tuple[int, bytes]]:
        """(k, encoded image `indices[k]`) of all k; each row group is read once."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for k, index in enumerate(indices):
            file, group, _ = self.places[index].tolist()
            wanted.setdefault((file, group), []).append(k)

        def of_group(item: tuple[tuple[int, int], list[int]]) -> list[tuple[int, bytes]]:
            (file, group), ks = item
            return list(
                zip(ks, read_images(self.files[file], group, [int(self.places[indices[k], 2]) for k in ks]), strict=True)
            )

        return [pair for pairs in each(of_group, list(wanted.items())) for pair in pairs]

    def _name(self, index: int) -> str:
        file, group, row = self.places[index].tolist()
        return f"{self.files[file]} (row {row} of row group {group})"


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A shard; errors of the block become one line that names it."""
    try:
        from pyarrow import ArrowException  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"reading {file.name} needs pyarrow: pip install 'pyarrow>=15'") from error
    try:
        with ParquetFile(file) as shard:
            yield shard
    except FileNotFoundError as error:
        raise UserError(f"parquet file {file} is missing; download it again") from error
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"parquet file {file} cannot be read: {reason}; download it again") from error
