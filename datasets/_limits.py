"""Lists of image files, smaller versions of a dataset, and what every dataset must hold whatever its limits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..core.data import ArrayImages, Split
from ..core.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The image files of one split with their labels and, where the set has them, groups; and files that are not read."""

    files: Sequence[Path]
    labels: Sequence[int]
    groups: Sequence[int] | None = None
    unread: Sequence[Path] = ()

    def take(self, indices: Sequence[int]) -> "Listing":
        groups = None if self.groups is None else [self.groups[i] for i in indices]
        return Listing([self.files[i] for i in indices], [self.labels[i] for i in indices], groups)


_LEFT_THERE = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # by Windows, by macOS's archiver, by network drives


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the dataset's."""
    return name.startswith(".") or name.lower() in _LEFT_THERE


def first(split: Split, limit: int | None) -> Split:
    """The first `limit` images of a split that lies in an array, in the order of the file."""
    if limit is None or limit >= len(split):
        return split
    array = split.images.array[:limit]  # type: ignore[attr-defined]
    return Split(ArrayImages(array), split.labels[:limit], None if split.groups is None else split.groups[:limit])


def first_of_classes(listing: Listing, limit: int | None) -> Listing:
    """`limit` files of a list, see `in_rounds`."""
    return listing.take(in_rounds(listing.labels, limit))


def in_rounds(labels: Sequence[int], limit: int | None) -> list[int]:
    """Indices of `limit` images in rounds over the classes (the first of each, then the second), ascending.

    Lists of files are sorted by class: their first N would all show the same one.
    """
    if limit is None or limit >= len(labels):
        return list(range(len(labels)))
    seen: Counter[int] = Counter()
    rounds = []
    for label in labels:
        rounds.append(seen[label])
        seen[label] += 1
    return sorted(sorted(range(len(rounds)), key=rounds.__getitem__)[:limit])


def check_classes(name: str, train_labels: Tensor, names: Sequence[str], limited: bool = False) -> None:
    """Every class has a train image; methods and protocols rely on it. `limited`: whether a train_limit is at work."""
    counts = train_labels.bincount(minlength=len(names))
    if len(empty := (counts == 0).nonzero().flatten()):
        missing = f"{names[int(empty[0])]!r}" + (f" and {len(empty) - 1} more" if len(empty) > 1 else "")
        cure = "raise train_limit" if limited else "add some to it"
        raise UserError(f"{name}: class {missing} has no train image; {cure}, or leave the class out of train and test")
