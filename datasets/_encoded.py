"""Compressed images: decoded once into the array store where they fit, decoded at each access where they do not."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.data import ArrayImages, ImageData, Images, Split
from ..core.store import ArrayStore, default_cache
from ._limits import check_classes

_BLOCK = 4096  # tasks in the queue at once; a million of them would take a gigabyte
_LAYOUT = "1"  # raised when decoding changes


class Encoded(Images, Protocol):
    """Compressed images that are decoded at each access."""

    @property
    def size(self) -> int:
        """Side of the decoded square in pixels."""
        ...

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> None:
        """Image `indices[k]` into `out[k]`, uint8 `(3, size, size)`."""
        ...

    def content_key(self) -> str:
        """sha256 of what the decoded pixels depend on."""
        ...

    def stamp_key(self) -> str:
        """sha256 of what tells this set from others without reading all of it."""
        ...

    def check_headers(self) -> None:
        """Raises `UserError` for what is no image, as far as that can be seen without decoding."""
        ...


@dataclass(frozen=True)
class EncodedSplit:
    """One split of compressed images with labels and perhaps groups."""

    images: Encoded
    labels: Sequence[int]
    groups: Sequence[int] | None = None


def encoded_data(
    name: str, train: EncodedSplit, test: EncodedSplit, names: Sequence[str], memory_limit_gb: float, groups: Sequence[str] = ()
) -> ImageData:
    """A dataset of compressed images; its fingerprint covers contents (see `decoded` and `streamed`), labels and class names.

    Sets that take at most `memory_limit_gb` when both splits are decoded are decoded at once, larger ones stream.
    """
    check_classes(name, torch.tensor(train.labels), names)
    fits = sum(len(part.images) * 3 * part.images.size**2 for part in (train, test)) <= memory_limit_gb * 1e9
    splits: list[Split] = []
    key = hashlib.sha256("/".join(names).encode())
    for part in (train, test):
        images, content = (decoded if fits else streamed)(part.images)
        key.update(f"{content}{list(part.labels)}".encode())
        if part.groups is not None:
            key.update(f"{list(part.groups)}".encode())
        members = None if part.groups is None else torch.tensor(part.groups)
        splits.append(Split(images, torch.tensor(part.labels), members))
    return ImageData(name, splits[0], splits[1], tuple(names), key.hexdigest(), tuple(groups))


def decoded(source: Encoded) -> tuple[Images, str]:
    """All images, decoded once into a memory-mapped array that later processes share; its key is that of the contents."""
    key, store = source.content_key(), _store()
    found = store.get(key)
    if found is None:
        with store.create(key, (len(source), 3, source.size, source.size), np.dtype(np.uint8)) as out:
            source.decode_into(out, range(len(source)))
        found = store.get(key)
        assert found is not None
    return ArrayImages(found), key


def streamed(source: Encoded) -> tuple[Images, str]:
    """The source itself, its headers checked, and its stamp.

    That the headers were found good is noted in the store, so that each process need not open a million files.
    """
    key, store = source.stamp_key(), _store()
    if "headers" not in store.meta(key):
        source.check_headers()
        store.annotate(key, {"headers": len(source)})
    return source, key


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
