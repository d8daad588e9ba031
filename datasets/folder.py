"""Image folders: `folder[path=DIR,size=128]` reads DIR/train/CLASS/* and DIR/test/CLASS/*."""

import hashlib
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.data import DATASETS, DataSource, ImageData
from ..core.errors import UserError
from ..core.params import Count, Positive
from ._class_order import number_order, order_notes
from ._csv import TEST_NAMES, csv_listing
from ._decode import Colour, extensions
from ._files import file_data, image_findings
from ._limits import Listing, hidden


@DATASETS.register("folder")
@dataclass(frozen=True)
class Folder(DataSource):
    """Image files in DIR/train/CLASS/* and DIR/test/CLASS/* (val in place of test), decoded to squares of `size` pixels.

    With `labels`, image files anywhere in DIR that a CSV lists: file,label[,split].
    """

    path: Path
    labels: Path | None = None  # CSV, in DIR or by its own path
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once
    background: Colour = "white"  # under transparent pixels
    mirror: bool = True  # whether mirrored images still show their class

    def load(self) -> ImageData:
        folder = self.path.expanduser()
        if not folder.is_dir():
            raise UserError(f"folder {folder} does not exist; give a folder that holds train/ and test/")
        if self.labels is not None:
            train, test, names, tests, notes = csv_listing(folder, self._table())
            notes += unread_notes(folder, None, [f for f in train.unread if f.suffix.lower() not in extensions()])
        else:
            train, test, names = listings(folder)
            used = split_folder(folder, ("train",)), split_folder(folder, TEST_NAMES)
            tests, notes = used[1].name, unread_notes(folder, used, [*train.unread, *test.unread])
        name = folder.resolve().name + ("" if tests == "test" else f"[test={tests}]")
        return listed_data(self, name, train, test, names, notes)

    def _table(self) -> Path:
        assert self.labels is not None
        inside = self.path.expanduser() / self.labels
        return inside if inside.is_file() else self.labels.expanduser()

    def check(self) -> Iterator[str]:
        """Images that cannot be opened, beside what `load` says."""
        folder = self.path.expanduser()
        try:
            train, test, *_ = csv_listing(folder, self._table()) if self.labels is not None else listings(folder)
        except (UserError, OSError):
            return
        yield from image_findings([*train.files, *test.files])


def listed_data(source: Any, name: str, train: Listing, test: Listing, names: Sequence[str], notes: Sequence[str]) -> ImageData:
    """The dataset of a user's lists; `source` has `size`, `memory_limit_gb`, `background` and `mirror`."""
    order = number_order(names)[1]
    unread = [str(file) for file in (*train.unread, *test.unread)]
    data = file_data(
        name, train, test, names, source.size, source.memory_limit_gb, background=source.background,
        notes=[*order_notes(names, order), *notes], facts={"unread": unread}, class_order=order,
    )  # fmt: skip
    return with_mirror(data, source.mirror)


def with_mirror(data: ImageData, mirror: bool) -> ImageData:
    """What a user says about mirrored images is part of the data's identity, as methods follow it."""
    if mirror:
        return data
    return replace(data, mirror=False, fingerprint=hashlib.sha256(f"{data.fingerprint} not mirrored".encode()).hexdigest())


def unread_notes(
    folder: Path, used: Sequence[Path] | None, unread: Sequence[Path], cure: str = "convert to PNG or JPEG what should be"
) -> list[str]:
    """What lies in a dataset's folder and is not read: files, and folders beside those that are `used` (None: any may be)."""
    notes = []
    if unread:
        kinds = Counter(file.suffix.lower() or "no extension" for file in unread).most_common()
        counted = ", ".join(f"{kind} {count:,}" for kind, count in kinds[:5]) + ", …" * (len(kinds) > 5)
        first = "/".join(min(unread).parts[-3:])
        files = "files are" if len(unread) > 1 else "file is"
        notes.append(f"{len(unread):,} {files} not read: {counted} (first {first}); {cure}")
    if used is None:
        return notes
    beside = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and not hidden(entry.name)]
    if others := [name for name in beside if name not in {part.name for part in used}]:
        notes.append(f"folders that are not read: {', '.join(f'{name}/' for name in others[:5])}" + ", …" * (len(others) > 5))
    return notes


def listings(folder: Path) -> tuple[Listing, Listing, list[str]]:
    """Train files, test files (each with labels) and class names of `folder`. A class may lack test images."""
    train, test = split_folder(folder, ("train",)), split_folder(folder, TEST_NAMES)
    names, others = class_folders(train), class_folders(test)
    if alone := [name for name in others if name not in names]:
        raise UserError(f"class {alone[0]!r} is in {test} but not in {train}{_like(alone[0], names)}")
    listed = class_listing(test, [name if name in others else None for name in names], empty=True)
    if not listed.files:
        raise UserError(f"{test} holds no images; add some to its class folders")
    return class_listing(train, names), listed, names


def _like(name: str, names: Sequence[str]) -> str:
    """What to do about a class that train lacks: some file systems tell apart what looks the same."""

    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", text).casefold().strip()

    if near := next((other for other in names if plain(other) == plain(name)), None):
        return f", which has {near!r}: give both the same name (capitals, blanks and the encoding of accents count)"
    return "; add train images of it, or move it out of the test folder"


def split_folder(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of `names` that is a folder."""
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        table = next(iter(sorted(folder.glob("*.csv"))), None)
        listed = f"; if {table.name} lists the images, give labels={table.name}" if table else ""
        raise UserError(f"folder {folder} has no {names[0]}/; the layout is {names[0]}/CLASS/IMAGE{listed}")
    return found


def class_listing(folder: Path, names: Sequence[str | None], empty: bool = False) -> Listing:
    """Files of the class folders `names` in this order, with their labels; None: a class without a folder.

    `empty`: whether a class folder may hold no images.
    """
    files, labels, unread = [], [], []
    unread += [entry for entry in sorted(folder.iterdir()) if entry.is_file() and not hidden(entry.name)]
    for label, name in enumerate(names):
        if name is None:
            continue
        of_class, others = (files_of_class if empty else image_files_and_others)(folder / name)
        files += of_class
        unread += others
        labels += [label] * len(of_class)
    return Listing(files, labels, unread=unread)


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders, as numbers where all of them are, else sorted; hidden ones do not count."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not hidden(entry.name)]
    if not names:
        raise UserError(f"{folder} holds no class folders; the layout is CLASS/IMAGE")
    return number_order(names)[0]


def image_files(folder: Path) -> list[Path]:
    """Image files of one class, see `files_of_class`. A class without any is an error that names what is there instead."""
    return image_files_and_others(folder)[0]


def image_files_and_others(folder: Path) -> tuple[list[Path], list[Path]]:
    images, others = files_of_class(folder)
    if not images:
        found = ", ".join(sorted({entry.suffix or entry.name for entry in others})) or "nothing"
        raise UserError(
            f"class folder {folder} holds no images (found {found}); add images, or remove the class from train and test"
        )
    return images, others


def files_of_class(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files of one class, and other files; sorted, subfolders and links included, hidden files and folders not.

    A folder that links lead to twice, or back to, is read once.
    """
    images: list[Path] = []
    others: list[Path] = []
    seen = {_identity(parent) for parent in folder.resolve().parents}
    waiting = deque([folder])
    while waiting:
        parent = waiting.popleft()
        if (place := _identity(parent)) in seen:
            continue
        seen.add(place)
        for entry in sorted(os.scandir(parent), key=lambda entry: entry.name):
            if hidden(entry.name):
                continue
            if _leads_to_folder(entry):
                waiting.append(Path(entry.path))
            elif entry.is_symlink() or entry.is_file():  # neither sockets nor pipes, which would hang
                found = Path(entry.path)
                (images if found.suffix.lower() in extensions() else others).append(found)
    return sorted(images), sorted(others)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: named when it is opened
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino
