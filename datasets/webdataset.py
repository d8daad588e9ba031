"""WebDataset shards: `webdataset[path=DIR]` reads DIR/train-*.tar and DIR/test-*.tar (or DIR/train/*.tar ...).

The library `webdataset` streams shards from start to end, while methods and probes draw images at random. So the shards are
indexed once by tarfile, and images are read where they lie; nothing is unpacked and nothing is kept in memory.
"""

import contextlib
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.data import DATASETS, DataSource, ImageData
from ..core.errors import UserError
from ..core.params import Count, Positive
from ._decode import Colour, extensions
from ._encoded import digest, each
from ._files import file_digest, file_stamp
from ._packed import Packed
from ._user_splits import by_split, files_below, listed_names, not_read, split_data
from .folder import unread_notes

_PACKED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz)$")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_LABEL_BYTES = 1 << 20  # of a label member; more is no label
_KEYS = ("label", "cls", "class", "class_id", "target")  # of a .json member


@dataclass(frozen=True)
class TarImages(Packed):
    """Members of uncompressed tar files."""

    files: Sequence[Path]
    places: np.ndarray  # (n, 3): file, offset, bytes
    names: Sequence[str]  # of the members
    size: int
    background: str = "white"

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        return f"{self.files[int(self.places[index, 0])].name}/{self.names[index]}"

    def read(self, indices: Sequence[int]) -> list[tuple[int, bytes]]:
        wanted: dict[int, list[int]] = {}
        for k, index in enumerate(indices):
            wanted.setdefault(int(self.places[index, 0]), []).append(k)
        found = []
        for number, ks in wanted.items():
            with _opened(self.files[number]) as shard:
                for k in ks:
                    _, offset, length = self.places[indices[k]].tolist()
                    found.append((k, os.pread(shard.fileno(), length, offset)))
        return found

    def content_key(self) -> str:
        return digest([*each(file_digest, self.files), *map(str, self.places.tolist())], self.size)

    def stamp_key(self) -> str:
        return digest([*each(file_stamp, self.files), *map(str, self.places.tolist())], self.size)

    def total_bytes(self) -> int:
        return int(self.places[:, 2].sum())


@DATASETS.register("webdataset")
@dataclass(frozen=True)
class WebDataset(DataSource):
    """WebDataset shards: DIR/train-*.tar and DIR/test-*.tar with KEY.jpg and KEY.cls (or KEY.json), uncompressed.

    Class names from DIR/classes.json or DIR/classnames.txt, if there.
    """

    path: Path
    image: str | None = None  # member that holds the image, such as jpg; default: the first one that is an image
    label: str | None = None  # member that holds the label; default: cls, or json with a key `label`
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once
    background: Colour = "white"  # under transparent pixels
    mirror: bool = True  # whether mirrored images still show their class

    def load(self) -> ImageData:
        path = self.path.expanduser()
        folder = path if path.is_dir() else path.parent
        files = files_below(path, "*.tar") if path.is_dir() else [path] if path.is_file() else []
        unread = not_read(path, ".tar")
        if not files:
            packed = [file for file in unread if _PACKED.search(file.name)]
            cure = f"unpack {packed[0].name} to .tar" if packed else "give a folder that holds train-*.tar and test-*.tar"
            raise UserError(f"{path} holds no .tar shards; {cure}")
        splits, notes = by_split(files, folder), unread_notes(folder, None, unread, "unpack or convert to .tar what should be")

        def load(split: str) -> tuple[np.ndarray, Any]:
            shards = splits[split]
            found = each(lambda shard: index_shard(shard, self.image, self.label), shards)
            places = np.concatenate([np.column_stack([np.full(len(x.places), k), x.places]) for k, x in enumerate(found)])
            members = [name for shard in found for name in shard.names]
            skipped: Counter[str] = sum((shard.skipped for shard in found), Counter())
            if skipped:
                counted = ", ".join(f"{kind} {count:,}" for kind, count in skipped.most_common(5))
                notes.append(f"{split or 'shards'}: {sum(skipped.values()):,} members are not read: {counted}")

            def make(chosen: np.ndarray | None) -> TarImages:
                kept = np.arange(len(places)) if chosen is None else chosen
                return TarImages(shards, places[kept], [members[k] for k in kept], self.size, self.background)

            return np.array([label for shard in found for label in shard.labels]), make

        return split_data(self, path.resolve().stem, load, list(splits), listed_names(folder), notes, unread)


@dataclass(frozen=True)
class Shard:
    """What one tar file holds: where images lie, `(n, 2)` as (offset, bytes), their names and labels, other members."""

    places: np.ndarray
    names: list[str]
    labels: list[Any]
    skipped: Counter


def index_shard(file: Path, image: str | None = None, label: str | None = None) -> Shard:
    """The samples of a shard: consecutive members that share a name up to the first dot. Raises `UserError`."""
    places, names, labels, skipped = [], [], [], Counter()
    length = file.stat().st_size
    with _opened(file) as raw:
        for key, members in _samples(raw, skipped):
            picture = _picture(members, image)
            stored = _label(raw, members, label, file, key)
            if picture is None or stored is None:
                skipped[f"sample without {'image' if picture is None else 'label'}"] += 1
                continue
            skipped.update(
                f".{kind}" for kind in members if members[kind] is not picture and kind not in ("cls", "json", label)
            )
            if picture.offset_data + picture.size > length:
                raise UserError(f"{file} is truncated within {picture.name}; copy it again")
            places.append((picture.offset_data, picture.size))
            names.append(picture.name)
            labels.append(stored)
    if not places:
        held = ", ".join(f"{kind} {count:,}" for kind, count in skipped.most_common(3)) or "nothing"
        raise UserError(f"{file} holds no sample with an image and a label ({held}); KEY.jpg and KEY.cls are due")
    if len({isinstance(value, str) for value in labels}) > 1:
        labels = [str(value) for value in labels]
    return Shard(np.array(places, np.int64).reshape(-1, 2), names, labels, skipped)


def _samples(raw: Any, skipped: Counter) -> Any:
    """(key, members by extension) of a shard in its order; links that lead out of it are `skipped`."""
    key, members = None, {}
    there: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=raw, mode="r:") as archive:
        for member in archive:
            folder, _, base = member.name.rpartition("/")
            if member.isdir() or base.startswith("."):
                continue
            if member.islnk() and (same := there.get(member.linkname)):  # a second name of a file that was packed before
                member.offset_data, member.size = same.offset_data, same.size
            elif not member.isreg():
                skipped["link"] += 1
                continue
            there[member.name] = member
            stem, _, kind = base.partition(".")
            if (found := f"{folder}/{stem}") != key:
                if members:
                    yield key, members
                key, members = found, {}
            members[kind.lower()] = member
    if members:
        yield key, members


def _picture(members: dict[str, tarfile.TarInfo], image: str | None) -> tarfile.TarInfo | None:
    if image is not None:
        return members.get(image.lower().lstrip("."))
    return next((member for kind, member in members.items() if f".{kind}" in extensions()), None)


def _label(raw: Any, members: dict[str, tarfile.TarInfo], asked: str | None, file: Path, key: str) -> Any:
    """The label of a sample, an int where it is one, else text; None where there is none."""
    for kind in (asked,) if asked is not None else ("cls", "json"):
        member = members.get(kind.lower().lstrip("."))
        if member is None:
            continue
        if member.size > _LABEL_BYTES:
            raise UserError(f"{file}: {member.name} of {member.size:,} bytes is no label; name another with label=")
        try:
            text = os.pread(raw.fileno(), member.size, member.offset_data).decode()
            value = json.loads(text) if kind.endswith("json") else text.strip()
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: {member.name} cannot be read: {' '.join(str(error).split())[:120]}") from error
        if isinstance(value, dict):
            value = next((value[name] for name in _KEYS if name in value), None)
        if isinstance(value, bool | int | str) and str(value):
            return int(value) if _WHOLE.fullmatch(str(value)) else str(value)
    return None


@contextlib.contextmanager
def _opened(file: Path) -> Any:
    try:
        with file.open("rb") as opened:
            yield opened
    except tarfile.TarError as error:
        cure = "it must be an uncompressed tar (gunzip it), as images are read where they lie"
        raise UserError(f"{file} cannot be read: {error}; {cure}") from error
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; copy it again") from error
