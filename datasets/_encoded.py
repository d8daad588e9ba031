"""Compressed images: decoded once into the array store where they fit, decoded at each access where they do not."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.data import ArrayImages, ImageData, Images, Split
from ..core.store import ArrayStore, default_cache
from ._decode import Seen, survey, survey_notes
from ._limits import check_classes
from ._notes import NO_TWINS, Twins, confirmed_twins, described

_BLOCK = 4096  # tasks in the queue at once; a million of them would take a gigabyte
_SURVEY = "survey 2"  # what the store calls it; the number rises where it tells more than before
_LAYOUT = "1"  # of content keys; part of fingerprints
_DECODER = 2  # raised when any image is decoded to other pixels than before; transparency and 16 bits: 2


class Encoded(Images, Protocol):
    """Compressed images that are decoded at each access."""

    @property
    def size(self) -> int:
        """Side of the decoded square in pixels."""
        ...

    @property
    def background(self) -> str:
        """Colour under transparent pixels."""
        ...

    def name(self, index: int) -> str:
        """What people know image `index` by."""
        ...

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> list[Seen]:
        """Image `indices[k]` into `out[k]`, uint8 `(3, size, size)`; what each of them is."""
        ...

    def content_key(self) -> str:
        """sha256 of the encoded images and `size`."""
        ...

    def stamp_key(self) -> str:
        """sha256 of what tells this set from others without reading all of it."""
        ...

    def look(self) -> list[Seen]:
        """What the headers tell. Raises `UserError` for what is no image, as far as that can be seen without decoding."""
        ...

    def twin_keys(self) -> list[bytes] | None:
        """A cheap digest of each image, equal where the bytes are equal; None where that would mean reading very much."""
        ...

    def confirm(self, index: int) -> bytes:
        """Digest of all bytes of image `index`."""
        ...


@dataclass(frozen=True)
class EncodedSplit:
    """One split of compressed images with labels and perhaps groups."""

    images: Encoded
    labels: Sequence[int]
    groups: Sequence[int] | None = None


def encoded_data(
    name: str,
    train: EncodedSplit,
    test: EncodedSplit,
    names: Sequence[str],
    memory_limit_gb: float,
    groups: Sequence[str] = (),
    notes: Sequence[str] = (),
    facts: dict[str, Any] | None = None,
    class_order: str = "as published",
    limited: bool = False,
) -> ImageData:
    """A dataset of compressed images; its fingerprint covers contents (see `decoded` and `streamed`), labels and class names.

    Sets that take at most `memory_limit_gb` when both splits are decoded are decoded at once, larger ones stream. `notes` and
    `facts` on how the lists came about are put before those on the images; `limited` as in `check_classes`.
    """
    check_classes(name, torch.tensor(train.labels, dtype=torch.long), names, limited)
    parts = {"train": train, "test": test}
    fits = sum(len(part.images) * 3 * part.images.size**2 for part in parts.values()) <= memory_limit_gb * 1e9
    splits: list[Split] = []
    surveys: dict[str, Any] = {}
    key = hashlib.sha256("/".join(names).encode())
    for split, part in parts.items():
        images, content, surveys[split] = (decoded if fits else streamed)(part.images)
        key.update(f"{content}{list(part.labels)}".encode())
        if part.groups is not None:
            key.update(f"{list(part.groups)}".encode())
        members = None if part.groups is None else torch.tensor(part.groups)
        splits.append(Split(images, torch.tensor(part.labels), members))
    data = ImageData(name, splits[0], splits[1], tuple(names), key.hexdigest(), tuple(groups), class_order=class_order)
    read = [f"{split}: {line}" for split in parts for line in survey_notes(surveys[split], parts[split].images.background)]
    return described(
        data,
        [*notes, *read],
        {**(facts or {}), "files": surveys},
        same=None if fits else lambda: _byte_twins(train.images, test.images),
        name_of=lambda split, index: parts[split].images.name(index),
    )


def decoded(source: Encoded) -> tuple[Images, str, dict[str, Any]]:
    """All images, decoded once into a memory-mapped array that later processes share; the key of the contents; the survey."""
    content, store = source.content_key(), _store()
    key = hashlib.sha256(f"{content}/{source.background}/{_DECODER}".encode()).hexdigest()
    found, facts = store.get(key), store.meta(key).get(_SURVEY)
    if found is None or facts is None:
        with store.create(key, (len(source), 3, source.size, source.size), np.dtype(np.uint8)) as out:
            seen = source.decode_into(out, range(len(source)))
        facts = _survey(source, seen)
        store.annotate(key, {_SURVEY: facts})
        found = store.get(key)
        assert found is not None
    return ArrayImages(found), _with_background(content, source, facts), facts


def streamed(source: Encoded) -> tuple[Images, str, dict[str, Any]]:
    """The source itself, its headers checked, its stamp and survey.

    What the headers tell is noted in the store, so that each process need not open a million files.
    """
    key, store = source.stamp_key(), _store()
    facts = store.meta(key).get(_SURVEY)
    if facts is None:
        facts = _survey(source, source.look())
        store.annotate(key, {_SURVEY: facts})
    return source, _with_background(key, source, facts), facts


def _survey(source: Encoded, seen: list[Seen]) -> dict[str, Any]:
    return survey(seen, source.name)


def _with_background(key: str, source: Encoded, facts: dict[str, Any]) -> str:
    """The background is part of the contents where anything lets it through."""
    if not facts["transparent"]["count"]:
        return key
    return hashlib.sha256(f"{key} on {source.background}".encode()).hexdigest()


def _byte_twins(train: Encoded, test: Encoded) -> Twins:
    parts = (train, test)
    keys = [found for part in parts if (found := part.twin_keys()) is not None]
    return confirmed_twins(keys, lambda split, k: parts[split].confirm(k)) if len(keys) == len(parts) else NO_TWINS


def decoded_at(source: Encoded, indices: Tensor) -> Tensor:
    """Images at `indices (k,)`, uint8 `(k, 3, size, size)`."""
    out = np.empty((len(indices), 3, source.size, source.size), np.uint8)
    source.decode_into(out, indices.tolist())
    return torch.from_numpy(out)


def _store() -> ArrayStore:
    return ArrayStore(default_cache() / "images")


def digest(parts: Sequence[str], size: int) -> str:
    return hashlib.sha256("\n".join([_LAYOUT, str(size), *parts]).encode()).hexdigest()


def each(function: Callable, items: Sequence) -> list:
    """`function` of all items, by a thread per core; the first error in the order of the items is raised."""
    with ThreadPoolExecutor(_cores()) as pool:
        blocks = (items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK))
        return [result for block in blocks for result in pool.map(function, block)]


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
