"""TinyImageNet in its published layout."""

from dataclasses import dataclass
from pathlib import Path

from ..core.data import DATASETS
from ..core.errors import UserError
from ..core.params import Count
from ._limits import Listing
from ._published import FileSet, read_lines
from .folder import class_listing


@DATASETS.register("tinyimagenet")
@dataclass(frozen=True)
class TinyImageNet(FileSet):
    """TinyImageNet (Stanford CS231n): 100,000 / 10,000 images of 64 px, 200 classes; val is the test split.

    Layout of tiny-imagenet-200.zip: wnids.txt, train/WNID/images/*, val/images/* with val/val_annotations.txt `FILE WNID BOX`.
    """

    size: Count = 64

    folder = "tiny-imagenet-200"
    needs = ("wnids.txt", "train", "val/images", "val/val_annotations.txt")
    manual = "download tiny-imagenet-200.zip from cs231n.stanford.edu and unpack it there"
    images, classes = (100_000, 10_000), 200

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        names = tuple(sorted(line.strip() for line in read_lines(self.home / "wnids.txt")))
        if absent := [name for name in names if not (self.home / "train" / name).is_dir()]:
            raise UserError(f"{self.home / 'train' / absent[0]} is missing; unpack the set again")
        return class_listing(self.home / "train", names), self._val(names), names

    def _val(self, names: tuple[str, ...]) -> Listing:
        """The test split by its list of annotations."""
        file, order = self.home / "val" / "val_annotations.txt", {name: k for k, name in enumerate(names)}
        files: list[Path] = []
        labels: list[int] = []
        for number, line in enumerate(read_lines(file), 1):
            image, *rest = line.split()
            if not rest or rest[0] not in order:
                raise UserError(f"{file}:{number} is {line.strip()[:40]!r} instead of FILE WNID; unpack the set again")
            files.append(self.home / "val" / "images" / image)
            labels.append(order[rest[0]])
        return Listing(files, labels)
