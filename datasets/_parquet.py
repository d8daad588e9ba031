"""Images in parquet shards as Hugging Face publishes them: columns `image` (struct with `bytes`) and `label`.

Shards are called SPLIT-00000-of-00294.parquet (huggingface.co/docs/hub/datasets-adding, and the files of ILSVRC/imagenet-1k).
pyarrow is imported only here and only when a set lies in parquet.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ._encoded import digest, each
from ._files import file_digest, file_stamp
from ._packed import Packed


def shards(folder: Path, split: str) -> list[Path]:
    """The shards of one split in order."""
    return sorted(folder.glob(f"{split}-*.parquet"))


def missing_shards(found: Sequence[Path]) -> list[str]:
    """Names of the shards that the names of those found promise: 00007-of-00294."""
    names = {file.name for file in found}
    parts = {m.groups() for name in names if (m := re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.parquet", name))}
    due = [f"{split}-{k:05}-of-{count}.parquet" for split, count in sorted(parts) for k in range(int(count))]
    return [name for name in due if name not in names]


def read_labels(file: Path, image: str = "image", label: str = "label") -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of a shard lie, `(n, 2)` as (row group, row within it), and their labels `(n,)` as stored."""
    with opened_shard(file) as shard:
        held = [shard.metadata.schema.column(k).path for k in range(shard.metadata.num_columns)]
        for column in (f"{image}.bytes", label):
            if column not in held:
                raise UserError(f"parquet file {file} has no column {column!r}, only {', '.join(held)}")
        labels = shard.read(columns=[label]).column(label).to_numpy()
        sizes = [shard.metadata.row_group(k).num_rows for k in range(shard.metadata.num_row_groups)]
    places = [np.stack([np.full(size, k), np.arange(size)], 1) for k, size in enumerate(sizes)]
    return np.concatenate([np.empty((0, 2), int), *places]), labels


def read_images(file: Path, column: str, group: int, rows: Sequence[int]) -> list[bytes]:
    """The encoded images of some rows of one row group."""
    with opened_shard(file) as shard:
        found = shard.read_row_group(group, columns=[f"{column}.bytes"]).flatten().column(f"{column}.bytes")
        return [found[row].as_py() or b"" for row in rows]


def column_key(column: str) -> list[str]:
    """What the column of the images adds to their key; nothing for the usual name, whose keys are older than the choice."""
    return [] if column == "image" else [column]


@dataclass(frozen=True)
class ParquetImages(Packed):
    """Rows of parquet shards, read by row group and decoded at each access, by a thread per core."""

    files: Sequence[Path]
    places: np.ndarray  # (n, 3): file, row group, row within the row group
    size: int
    background: str = "white"
    column: str = "image"
    hashed: bool = False  # whether the shards' bytes are part of the contents, or their sizes alone

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        file, group, row = self.places[index].tolist()
        return f"{self.files[file]} (row {row} of row group {group})"

    def content_key(self) -> str:
        """Of the shards' names and byte sizes: the bytes of a subset are spread over all shards, which takes hours to read.

        Where `hashed`, of their bytes.
        """
        places = hashlib.sha256(self.places.astype("<i8").tobytes()).hexdigest()
        return digest(
            [*each(file_digest if self.hashed else file_stamp, self.files), places, *column_key(self.column)], self.size
        )

    def stamp_key(self) -> str:
        places = hashlib.sha256(self.places.astype("<i8").tobytes()).hexdigest()
        return digest([*each(file_stamp, self.files), places, *column_key(self.column)], self.size)

    def samples(self) -> Sequence[int]:
        """The first image of each shard."""
        return np.unique(self.places[:, 0], return_index=True)[1].tolist()

    def total_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def read(self, indices: Sequence[int]) -> list[tuple[int, bytes]]:
        """(k, encoded image `indices[k]`) of all k; each row group is read once."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for k, index in enumerate(indices):
            file, group, _ = self.places[index].tolist()
            wanted.setdefault((file, group), []).append(k)

        def of_group(item: tuple[tuple[int, int], list[int]]) -> list[tuple[int, bytes]]:
            (file, group), ks = item
            return list(
                zip(
                    ks,
                    read_images(self.files[file], self.column, group, [int(self.places[indices[k], 2]) for k in ks]),
                    strict=True,
                )
            )

        return [pair for pairs in each(of_group, list(wanted.items())) for pair in pairs]


@contextlib.contextmanager
def opened_shard(file: Path) -> Iterator[Any]:
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
