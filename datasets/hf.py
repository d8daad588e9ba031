"""Hugging Face datasets on disk: `hf[path=DIR]` reads what `save_to_disk` wrote, or parquet with an image column.

A folder of `save_to_disk` is memory-mapped by the library `datasets`; parquet is read by pyarrow alone, since the library
would first convert all of it into a second copy in its cache. Nothing is downloaded.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.data import DATASETS, DataSource, ImageData
from ..core.errors import UserError
from ..core.params import Count, Positive
from ._decode import Colour, named
from ._encoded import digest, each
from ._files import file_digest, file_stamp
from ._packed import Packed
from ._parquet import ParquetImages, column_key, missing_shards, opened_shard, read_labels
from ._user_splits import by_split, chosen_splits, files_below, not_read, split_data
from .folder import unread_notes

_LABELS = ("label", "labels", "class", "target", "category")  # columns that hold them where no type says so


@DATASETS.register("hf")
@dataclass(frozen=True)
class HuggingFace(DataSource):
    """A Hugging Face dataset on disk: a folder of `save_to_disk`, or parquet shards with an image and a label column."""

    path: Path
    image: str | None = None  # column; default: the only one that holds images
    label: str | None = None  # column; default: the only one of class labels, or one called label
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once
    background: Colour = "white"  # under transparent pixels
    mirror: bool = True  # whether mirrored images still show their class

    def load(self) -> ImageData:
        path = self.path.expanduser()
        if not path.exists():
            raise UserError(f"{path} does not exist; give a folder of save_to_disk, or of parquet files")
        saved = path.is_dir() and any((path / mark).exists() for mark in ("dataset_dict.json", "state.json"))
        return self._saved(path) if saved else self._parquet(path)

    def _saved(self, path: Path) -> ImageData:
        library = _library()
        with _explained(path):
            found = library.load_from_disk(str(path))
        splits = dict(found) if isinstance(found, library.DatasetDict) else {"": found}
        image, label, names = self._columns({name: part.features.to_dict() for name, part in splits.items()}, path)

        def load(split: str) -> tuple[np.ndarray, Any]:
            with _explained(path):
                part = splits[split].with_format(None)
                labels = np.asarray(part.data.column(label).to_numpy())
                part = part.cast_column(image, library.Image(decode=False))
            kept = np.arange(len(part))
            return _text_or_numbers(labels, path, label), lambda chosen: ArrowImages(
                part, kept if chosen is None else chosen, image, self.size, self.background
            )

        return split_data(self, path.resolve().name, load, list(splits), names, [])

    def _columns(self, features: dict[str, dict[str, Any]], path: Path) -> tuple[str, str, list[str] | None]:
        """Image column, label column and class names, which all splits have to share: numbers mean places among them."""
        used = [split for split in chosen_splits(list(features), path, []) if split is not None]
        found = {split: _columns(features[split], self.image, self.label, path) for split in used}
        (first, wanted), *others = found.items()
        for split, (image, label, names) in others:
            if (image, label) != wanted[:2]:
                raise UserError(
                    f"{path}: columns are {', '.join(wanted[:2])} in {first} and {image}, {label} in {split}; rename"
                )
            if names != wanted[2]:
                raise UserError(
                    f"{path}: class names of {split} are not those of {first}, in their order ({_named_by(names)} against "
                    f"{_named_by(wanted[2])}); cast the column to one ClassLabel in all splits"
                )
        return wanted

    def _parquet(self, path: Path) -> ImageData:
        files = files_below(path, "*.parquet") if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} holds neither a dataset of save_to_disk nor .parquet files")
        splits = by_split(files, path if path.is_dir() else path.parent)
        image, label, names = self._columns({name: parquet_features(part[0]) for name, part in splits.items()}, path)
        unread = not_read(path, ".parquet")
        notes = unread_notes(path, None, unread, "convert to .parquet what should be")

        def load(split: str) -> tuple[np.ndarray, Any]:
            shards = splits[split]
            if gone := missing_shards(shards):
                raise UserError(f"{shards[0].parent} lacks {gone[0]}; download it")
            read = each(lambda shard: read_labels(shard, image, label), shards)
            places = np.concatenate([np.column_stack([np.full(len(rows), k), rows]) for k, (rows, _) in enumerate(read)])
            stored = np.concatenate([labels for _, labels in read])

            def make(chosen: np.ndarray | None) -> ParquetImages:
                kept = places if chosen is None else places[chosen]
                return ParquetImages(shards, kept, self.size, self.background, image, hashed=True)

            return _text_or_numbers(stored, path, label), make

        return split_data(self, path.resolve().stem, load, list(splits), names, notes, unread)


@dataclass(frozen=True)
class ArrowImages(Packed):
    """Rows of a memory-mapped dataset of the library, its images left encoded."""

    rows: Any
    kept: np.ndarray  # (n,) places among the rows
    column: str
    size: int
    background: str = "white"

    def __len__(self) -> int:
        return len(self.kept)

    def name(self, index: int) -> str:
        return f"row {self.kept[index]}"

    def read(self, indices: Sequence[int]) -> list[tuple[int, bytes]]:
        found = self.rows[self.kept[list(indices)].tolist()][self.column]
        return [(k, _bytes_of(one, self.name(indices[k]))) for k, one in enumerate(found)]

    def content_key(self) -> str:
        return self._key(file_digest)

    def stamp_key(self) -> str:
        return self._key(file_stamp)

    def total_bytes(self) -> int:
        with named("of a row", "cannot be read"):
            return sum(file.stat().st_size for file in (*self._files(), *self._outside))

    def _key(self, of_file: Callable[[Path], str]) -> str:
        rows = [*each(of_file, self._files()), *map(str, self.kept.tolist()), *column_key(self.column)]
        return digest([*rows, *each(of_file, self._outside)], self.size)

    def _files(self) -> list[Path]:
        return [Path(entry["filename"]) for entry in self.rows.cache_files]

    @cached_property
    def _outside(self) -> list[Path]:
        """Files that rows name in the place of bytes of their own. The bytes stay where they are mapped: only their lengths
        and the paths are gathered."""
        import pyarrow as pa  # pyright: ignore[reportMissingImports]  # the library needs it anyway
        from pyarrow import compute  # pyright: ignore[reportMissingImports]

        paths = []
        stored = self.rows.data.column(self.column)
        for chunk in stored.chunks:
            parts = {part.name: values for part, values in zip(chunk.type, chunk.flatten(), strict=True)}
            empty = compute.equal(compute.fill_null(compute.binary_length(parts["bytes"]), 0), 0)  # type: ignore[attr-defined]
            paths.append(compute.if_else(empty, parts["path"], None))  # type: ignore[attr-defined]
        kept = pa.chunked_array(paths, stored.type.field("path").type).take(self.kept)
        return [Path(path) for path in kept.drop_null().to_pylist() if path]


def _bytes_of(stored: Any, name: str) -> bytes:
    """Encoded bytes, or those of the file that the row names."""
    if stored and stored.get("bytes"):
        return stored["bytes"]
    if not stored or not stored.get("path"):
        raise UserError(f"image {name} is empty; leave the row out")
    try:
        return Path(stored["path"]).read_bytes()
    except OSError as error:
        raise UserError(f"image {name} lies in {stored['path']}, which cannot be read; embed images when saving") from error


def parquet_features(file: Path) -> dict[str, Any]:
    """Types of the columns as the library writes them into a parquet file; its own types where nothing is written."""
    with opened_shard(file) as shard:
        schema = shard.schema_arrow
        written = (schema.metadata or {}).get(b"huggingface")
        images = [field.name for field in schema if str(field.type).startswith("struct<bytes: binary")]
        others = [field.name for field in schema if field.name not in images]
    try:
        found = json.loads(written)["info"]["features"] if written else {}
    except (ValueError, KeyError, TypeError):
        found = {}
    plain = {**{name: {"_type": "Image"} for name in images}, **{name: {"_type": "Value"} for name in others}}
    return {name: found.get(name) or kind for name, kind in plain.items()} if isinstance(found, dict) else plain


def _columns(features: dict[str, Any], image: str | None, label: str | None, where: Path) -> tuple[str, str, list[str] | None]:
    """Columns of images and labels, and class names where the label's type has them."""
    kinds = {name: kind.get("_type") if isinstance(kind, dict) else None for name, kind in features.items()}
    images = [name for name in kinds if kinds[name] == "Image"]
    typed = [name for name in kinds if kinds[name] == "ClassLabel"]
    named = [name for name in _LABELS if name in kinds]
    image = _one("image", image, images, kinds, where)
    label = _one("label", label, typed if len(typed) == 1 or not named else named[:1], kinds, where)
    names = features[label].get("names") if kinds[label] == "ClassLabel" else None
    return image, label, None if names is None else [str(name) for name in names]


def _named_by(names: Sequence[str] | None) -> str:
    return "none" if names is None else ", ".join(names[:3]) + ", …" * (len(names) > 3)


def _one(what: str, asked: str | None, found: list[str], kinds: dict[str, Any], where: Path) -> str:
    if asked is not None and asked in kinds:
        return asked
    if asked is None and len(found) == 1:
        return found[0]
    held = ", ".join(f"{name} ({kind})" for name, kind in list(kinds.items())[:8])
    raise UserError(f"{where}: which column is the {what}? name it with {what}=; there are: {held}")


def _text_or_numbers(labels: np.ndarray, where: Path, column: str) -> np.ndarray:
    """Arrow gives text as objects, and numbers with gaps as floats with NaN."""
    if labels.dtype == object:
        if not all(isinstance(value, str) for value in labels):
            raise UserError(f"{where}: column {column} holds other things than text or numbers, or empty rows; name another")
        return labels.astype(str)
    return labels


def _library() -> Any:
    try:
        import datasets as library
    except ImportError as error:
        raise UserError("reading a folder of save_to_disk needs the library datasets: pip install 'ddbench[hf]'") from error
    if not hasattr(library, "load_from_disk"):
        raise UserError("the folder datasets/ of the working directory hides the library datasets; start python with -P")
    return library


@contextlib.contextmanager
def _explained(path: Path) -> Any:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the library raises whatever the damage leads to
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path} cannot be read as a dataset of save_to_disk: {reason}; save it again") from error
