"""Published sets of image files: where they lie, what is missing, what they should hold."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ..core.data import DataSource, ImageData
from ..core.errors import NotHere, UserError
from ..core.params import Count, Positive
from ._decode import Colour
from ._files import file_data, image_findings
from ._limits import Listing, first_of_classes


def default_root() -> Path:
    """DDBENCH_DATA, or `data` in the working folder."""
    return Path(os.environ.get("DDBENCH_DATA", "data"))


@dataclass(frozen=True)
class FileSet(DataSource):
    """A published set of image files, decoded to squares of `size` pixels; subclasses say what lies where."""

    root: Path = field(default_factory=default_root)  # the folder that holds the set's own folder
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once
    train_limit: Count | None = None  # N train images in rounds over the classes: the first of each, then the second
    test_limit: Count | None = None
    background: Colour = "white"  # under transparent pixels

    folder: ClassVar[str]  # under `root`
    needs: ClassVar[tuple[str, ...]] = ()  # what must lie in `folder` before anything can be listed
    manual: ClassVar[str] = ""  # how to get the data
    images: ClassVar[tuple[int | None, int | None]] = (None, None)  # published number of train and of test images
    classes: ClassVar[int | None] = None  # published number of classes
    group_names: ClassVar[tuple[str, ...]] = ()
    mirror: ClassVar[bool] = True  # whether mirrored images still show their class

    @property
    def home(self) -> Path:
        return self.root.expanduser() / self.folder

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        """Train files, test files and class names. Raises `UserError` for lists that cannot be read."""
        raise NotImplementedError

    def absent(self) -> list[str]:
        """Files and folders without which nothing can be listed."""
        return [need for need in self.needs if not (self.home / need).exists()]

    def load(self) -> ImageData:
        if gone := self.absent():
            raise self.missing(f"no {gone[0]}" if self.home.is_dir() else "no such folder")
        train, test, names = self.listing()
        self.check_count(names)
        train, test = first_of_classes(train, self.train_limit), first_of_classes(test, self.test_limit)
        data = file_data(
            self.name,
            train,
            test,
            names,
            self.size,
            self.memory_limit_gb,
            self.group_names,
            self.background,
            limited=self.train_limit is not None,
        )
        return replace(data, mirror=self.mirror)

    def missing(self, reason: str) -> NotHere:
        """What to do about data that is not there."""
        return missing(self.name, self.root, self.folder, reason, self.manual)

    def due(self) -> tuple[int | None, int | None]:
        """Published number of train and of test images, where there is one."""
        return self.images

    def published_sizes(self) -> tuple[int, int, int] | None:
        train, test = self.due()
        if train is None or test is None or self.classes is None:
            return None
        return min(train, self.train_limit or train), min(test, self.test_limit or test), self.classes

    def check_count(self, names: tuple[str, ...]) -> None:
        if self.classes is not None and len(names) != self.classes:
            raise UserError(
                f"{self.name}: {self.home} holds {len(names):,} classes instead of {self.classes:,}; unpack it again"
            )

    def check(self) -> Iterator[str]:
        """Missing lists and folders; then missing images, files that are no images, and wrong numbers of images."""
        if gone := self.absent():
            yield from (f"{self.home / need} is missing: {self.manual}" for need in gone)
            return
        try:
            train, test, names = self.listing()
            self.check_count(names)
        except UserError as error:
            yield str(error)
            return
        yield from self.wrong_numbers(len(train.files), len(test.files))
        yield from image_findings([*train.files, *test.files])

    def wrong_numbers(self, *found: int) -> Iterator[str]:
        """One finding for each split, train and test, that is not as large as the published one."""
        for split, count, due in zip(("train", "test"), found, self.due(), strict=True):
            if due is not None and count != due:
                yield f"{self.home}: {count:,} {split} images instead of {due:,}; download or unpack it again"


def missing(name: str, root: Path, folder: str, reason: str, cure: str) -> NotHere:
    """The error of a set that is not, or not whole, in `folder` under `root`."""
    root = root.expanduser().absolute()
    return NotHere(f"{name} is missing or corrupt under {root} ({reason}); expected {root / folder}: {cure}")


def read_lines(file: Path) -> list[str]:
    """The lines of a list without the empty ones; a missing or undecodable file is a `UserError`."""
    try:
        return [line for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; unpack the set again") from error
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}; unpack the set again") from error
