"""What is noticed about a dataset and travels with its numbers: balance of classes, identical images, how files were read."""

import contextlib
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.data import ArrayImages, ImageData, Images, Selection, Split, index_chunks
from ..core.errors import UserError
from ..core.store import ArrayStore, default_cache

_UNEQUAL = 2  # times as many images in one class as in another: natural sets are never quite equal
_SHOWN = 3  # classes named in a line
_FREE = 1 << 25  # bytes that are hashed anew at each load rather than looked up in the cache
_VERSION = 1  # of the cached counts


def described(
    data: ImageData,
    notes: Sequence[str] = (),
    facts: dict[str, Any] | None = None,
    same: "Callable[[], Twins] | None" = None,
    name_of: Callable[[str, int], str] | None = None,
) -> ImageData:
    """`data` with what is noticed about it after `notes` on how it was read, and the counts behind that.

    `same` finds the identical images where comparing pixels would read too much; `name_of(split, index)` names an image.
    """
    twins = _cached_twins(data, same or (lambda: pixel_twins(data.train.images, data.test.images)))
    name_of = name_of or (lambda split, index: f"{split} image {index}")
    found = dict(data.facts, **(facts or {}), reading=list(notes), twins=twins.counts(data, name_of))
    lines = [*notes, *balance_notes(data), *twins.notes(data, name_of)]
    return dataclasses.replace(data, notes=(*data.notes, *lines), facts=found)


def balance_notes(data: ImageData) -> Iterator[str]:
    """Classes without a test image, unequal numbers of images, and what a constant answer has then."""
    for split, part in (("train", data.train), ("test", data.test)):
        counts = part.labels.bincount(minlength=data.num_classes)
        empty, there = (counts == 0).nonzero().flatten().tolist(), counts[counts > 0]
        if empty:
            have = "have" if len(empty) > 1 else "has"
            yield f"{len(empty):,} of {data.num_classes:,} classes {have} no {split} image: {_some(data.class_names, empty)}"
        if len(there) and there.max() >= _UNEQUAL * there.min():
            line = f"{split} has {there.min():,} to {there.max():,} images per class"
            most = int(counts.argmax())
            share = 100 * int(counts[most]) / len(part)
            yield line + (f"; always answering {data.class_names[most]!r} has {share:.1f} %" if split == "test" else "")


def _some(names: Sequence[str], chosen: Sequence[int]) -> str:
    return ", ".join(names[k] for k in chosen[:_SHOWN]) + ", …" * (len(chosen) > _SHOWN)


@dataclass(frozen=True)
class Twins:
    """Groups of identical images. Each member is (split, index) with split 0 for train and 1 for test.

    `of` says what is identical: `pixels`, `bytes` of files, or None where nobody looked.
    """

    groups: list[list[tuple[int, int]]]
    of: str | None

    def counts(self, data: ImageData, name_of: Callable[[str, int], str]) -> dict[str, Any]:
        """Test images that are train images too, further copies within each split, groups whose labels differ."""
        across = [group for group in self.groups if len({split for split, _ in group}) == 2]
        labels = (data.train.labels, data.test.labels)
        contradicting = [group for group in self.groups if len({int(labels[split][k]) for split, k in group}) > 1]
        within = [sum(max(0, sum(s == split for s, _ in group) - 1) for group in self.groups) for split in (0, 1)]
        return {
            "compared": self.of,
            "test_in_train": sum(split for group in across for split, _ in group),
            "train_copies": within[0],
            "test_copies": within[1],
            "contradicting": len(contradicting),
            "first_across": [_named(across[0], split, name_of) for split in (1, 0)] if across else None,
            "first_within": next(([name_of(_SPLITS[s], k) for s, k in g[:2]] for g in self.groups if g not in across), None),
            "first_contradicting": [name_of(_SPLITS[s], k) for s, k in contradicting[0][:2]] if contradicting else None,
        }

    def notes(self, data: ImageData, name_of: Callable[[str, int], str]) -> Iterator[str]:
        found = self.counts(data, name_of)
        if count := found["test_in_train"]:
            first = " = ".join(found["first_across"])
            share, are = 100 * count / len(data.test), "are" if count > 1 else "is"
            yield f"{count:,} of {len(data.test):,} test images ({share:.1f} %) {are} in train too ({first})"
        for split in _SPLITS:
            if count := found[f"{split}_copies"]:
                yield f"{split} holds {count:,} further {'copies' if count > 1 else 'copy'} of images that it has already"
        if count := found["contradicting"]:
            which = " = ".join(found["first_contradicting"])
            yield f"{count:,} image{'s are' if count > 1 else ' is'} there with different labels ({which})"


NO_TWINS = Twins([], None)  # where comparing would mean reading very much
_SPLITS = ("train", "test")


def _named(group: list[tuple[int, int]], split: int, name_of: Callable[[str, int], str]) -> str:
    return name_of(_SPLITS[split], next(k for s, k in group if s == split))


def pixel_twins(train: Images, test: Images) -> Twins:
    """Images of the same pixels in and across two splits; nobody looks at those that would have to be decoded."""
    if not all(map(_in_memory, (train, test))):
        return NO_TWINS
    members = defaultdict(list)
    for split, images in enumerate((train, test)):
        for chunk in index_chunks(len(images), 256):
            for k, row in zip(chunk.tolist(), images[chunk].contiguous().flatten(1).numpy(), strict=True):
                members[hashlib.blake2b(row, digest_size=16).digest()].append((split, k))
    return Twins([group for group in members.values() if len(group) > 1], "pixels")


def _in_memory(images: Images) -> bool:
    return isinstance(images, ArrayImages) or (isinstance(images, Selection) and _in_memory(images.source))


def _cached_twins(data: ImageData, find: Callable[[], Twins]) -> Twins:
    """Looked up by the data's fingerprint where finding them takes long."""
    if sum(len(part) * _bytes(part) for part in (data.train, data.test)) < _FREE:
        return find()
    store = ArrayStore(default_cache() / "images")
    if (found := store.meta(data.fingerprint).get("twins")) and found["version"] == _VERSION:
        return Twins([[(split, k) for split, k in group] for group in found["groups"]], found["of"])
    twins = find()
    with contextlib.suppress(UserError):  # a cache that cannot be written costs seconds, not the run
        store.annotate(data.fingerprint, {"twins": {"version": _VERSION, "groups": twins.groups, "of": twins.of}})
    return twins


def _bytes(split: Split) -> int:
    """Of one image."""
    array = getattr(split.images, "array", None)
    return int(array[0].nbytes) if array is not None and len(array) else _FREE  # unknown: as if it were large


def confirmed_twins(keys: Sequence[Sequence[bytes]], confirm: Callable[[int, int], bytes]) -> Twins:
    """Files whose cheap `keys`, one list per split, are equal and whose whole content (`confirm(split, index)`) is too."""
    likely = defaultdict(list)
    for split, of_split in enumerate(keys):
        for k, key in enumerate(of_split):
            likely[key].append((split, k))
    members = defaultdict(list)
    for group in (group for group in likely.values() if len(group) > 1):
        for split, k in group:
            members[confirm(split, k)].append((split, k))
    return Twins([group for group in members.values() if len(group) > 1], "bytes")
