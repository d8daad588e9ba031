"""Fine-grained sets in their published layouts: CUB-200-2011 and Stanford Dogs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scipy.io import loadmat

from ..core.data import DATASETS
from ..core.errors import UserError
from ._limits import Listing
from ._published import FileSet, read_lines


@DATASETS.register("cub")
@dataclass(frozen=True)
class CUB(FileSet):
    """CUB-200-2011 (Wah et al. 2011): 5,994 / 5,794 bird images, 200 species.

    Layout of CUB_200_2011.tgz, told in its README: images.txt `ID PATH`, image_class_labels.txt `ID CLASS` (from 1),
    train_test_split.txt `ID 1|0` (1: train), classes.txt `CLASS NAME`, images/.
    """

    folder = "CUB_200_2011"
    needs = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")
    manual = "download CUB_200_2011.tgz from vision.caltech.edu/datasets/cub_200_2011 and unpack it there"
    images, classes = (5_994, 5_794), 200

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        paths, labels, train, names = (pairs(self.home / need) for need in self.needs[:4])
        for key in paths:
            for table, file in ((labels, self.needs[1]), (train, self.needs[2])):
                if key not in table:
                    raise UserError(f"{self.home / file} has no line for image {key}; unpack the set again")
            if labels[key] not in names:
                raise UserError(f"{self.home / self.needs[1]} gives image {key} the class {labels[key]}, which has no name")
        order = {key: index for index, key in enumerate(names)}
        splits = []
        for flag in ("1", "0"):
            keys = [key for key in paths if train[key] == flag]
            files = [self.home / "images" / paths[key] for key in keys]
            splits.append(Listing(files, [order[labels[key]] for key in keys]))
        return splits[0], splits[1], tuple(name.partition(".")[2] or name for name in names.values())


def pairs(file: Path) -> dict[str, str]:
    """`KEY VALUE` lines as a dictionary in the order of the file."""
    found = dict(_pairs(file))
    if not found:
        raise UserError(f"{file} is empty; unpack the set again")
    return found


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(file), 1):
        key, _, value = line.strip().partition(" ")
        if not value:
            raise UserError(f"{file}:{number} is {line.strip()[:40]!r} instead of two words; unpack the set again")
        yield key, value.strip()


@DATASETS.register("dogs")
@dataclass(frozen=True)
class StanfordDogs(FileSet):
    """Stanford Dogs (Khosla et al. 2011): 12,000 / 8,580 images, 120 breeds.

    Layout of images.tar and lists.tar, told in the README of vision.stanford.edu/aditya86/ImageNetDogs: train_list.mat and
    test_list.mat hold `file_list` (paths below Images/) and `labels` (from 1).
    """

    folder = "stanford_dogs"
    needs = ("train_list.mat", "test_list.mat", "Images")
    manual = "download images.tar and lists.tar from vision.stanford.edu/aditya86/ImageNetDogs and unpack them there"
    images, classes = (12_000, 8_580), 120

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        splits = [self._read(self.home / file) for file in self.needs[:2]]
        breeds = dict(zip(splits[0].labels, (file.parent.name for file in splits[0].files), strict=True))
        names = tuple(breeds[label].partition("-")[2] or breeds[label] for label in sorted(breeds))
        return splits[0], splits[1], names

    def _read(self, file: Path) -> Listing:
        try:
            table = loadmat(str(file), squeeze_me=True, variable_names=("file_list", "labels"))
            paths, labels = [str(path) for path in table["file_list"]], [int(label) - 1 for label in table["labels"]]
        except Exception as error:  # scipy raises whatever the damage leads to
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(f"{file} cannot be read: {reason}; unpack lists.tar again") from error
        if len(paths) != len(labels) or any(label not in range(self.classes or 0) for label in labels):
            raise UserError(f"{file}: labels do not fit its {len(paths):,} files; unpack lists.tar again")
        return Listing([self.home / "Images" / path for path in paths], labels)
