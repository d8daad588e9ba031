"""Sets whose background is correlated with the class in train but not in test, with groups: Waterbirds and Spawrious."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ..core.data import DATASETS
from ..core.errors import UserError
from ._limits import Listing
from ._published import FileSet, read_lines
from .folder import image_files

_BIRDS = ("landbird", "waterbird")
_GROUNDS = ("land", "water")
_SPLITS = {"train": "0", "test": "2"}  # 1 is the validation split, which nothing here uses


@DATASETS.register("waterbirds")
@dataclass(frozen=True)
class Waterbirds(FileSet):
    """Waterbirds (Sagawa et al. 2020) as WILDS publishes it: 4,795 / 5,794 birds on land or water, 2 classes, 4 groups.

    Layout of waterbirds_v1.0, told in wilds/datasets/waterbirds_dataset.py of github.com/p-lambda/wilds: metadata.csv with
    img_filename, y (1: waterbird), place (1: water) and split (0 train, 1 val, 2 test). The group is 2 y + place.
    """

    folder = "waterbirds_v1.0"
    needs = ("metadata.csv",)
    manual = "download it with the wilds package (get_dataset('waterbirds', download=True)) and place the folder there"
    images, classes = (4_795, 5_794), 2
    group_names = tuple(f"{bird} on {ground}" for bird in _BIRDS for ground in _GROUNDS)

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        file = self.home / "metadata.csv"
        rows = list(csv.DictReader(io.StringIO("\n".join(read_lines(file)))))
        for column in ("img_filename", "y", "place", "split"):
            if not rows or rows[0].get(column) is None:
                raise UserError(f"{file} has no column {column!r}, or no rows; it must be the metadata.csv of WILDS")
        for number, row in enumerate(rows, 2):
            if row["y"] not in ("0", "1") or row["place"] not in ("0", "1") or row["split"] not in ("0", "1", "2"):
                raise UserError(f"{file}:{number}: y and place must be 0 or 1 and split 0 to 2; download it again")
        return self._split(rows, "train"), self._split(rows, "test"), _BIRDS

    def _split(self, rows: list[dict[str, str]], split: str) -> Listing:
        chosen = [row for row in rows if row["split"] == _SPLITS[split]]
        labels = [int(row["y"]) for row in chosen]
        groups = [2 * label + int(row["place"]) for label, row in zip(labels, chosen, strict=True)]
        return Listing([self.home / row["img_filename"] for row in chosen], labels, groups)


_BREEDS = ("bulldog", "corgi", "dachshund", "labrador")
_PLACES = ("beach", "desert", "dirt", "jungle", "mountain", "snow")
# the challenge o2o_hard: breeds show their own place in train and another's in test
_TRAIN_PLACE = {"bulldog": "jungle", "corgi": "desert", "dachshund": "mountain", "labrador": "snow"}
_TEST_PLACE = {"bulldog": "mountain", "corgi": "jungle", "dachshund": "snow", "labrador": "desert"}
_FILLER = "beach"  # place of the few train images that break the correlation
_PER_FOLDER = 3_168
_CORRELATED = (3_072, 2_756)  # images in the own place from environments 0 and 1: 97 % and 87 %; the rest is filler


@DATASETS.register("spawrious")
@dataclass(frozen=True)
class Spawrious(FileSet):
    """Spawrious o2o_hard (Lynch et al. 2023): 25,344 / 25,344 generated dogs, 4 breeds, whose place follows the breed in train.

    Layout of spawrious224__o2o_hard.tar.gz, and which images are used, from spawrious/torch.py of github.com/aengusl/spawrious:
    ENVIRONMENT/PLACE/BREED/IMAGE with environments 0 and 1. It takes the first images in the order of the disk; here that
    order is by name. The group is 6 breed + place.
    """

    folder = "spawrious224"
    needs = tuple(
        f"{environment}/{place}/{breed}"
        for environment in (0, 1)
        for breed in _BREEDS
        for place in (_TRAIN_PLACE[breed], _FILLER, _TEST_PLACE[breed])
    )
    manual = "unpack spawrious224__o2o_hard.tar.gz, linked at github.com/aengusl/spawrious, there"
    images, classes = (2 * 4 * _PER_FOLDER, 2 * 4 * _PER_FOLDER), 4
    group_names = tuple(f"{breed} in {place}" for breed in _BREEDS for place in _PLACES)

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        train, test = [], []
        for environment, correlated in enumerate(_CORRELATED):
            for breed in _BREEDS:
                train.append((environment, _TRAIN_PLACE[breed], breed, correlated))
                train.append((environment, _FILLER, breed, _PER_FOLDER - correlated))
                test.append((environment, _TEST_PLACE[breed], breed, None))
        return self._joined(train), self._joined(test), _BREEDS

    def _joined(self, parts: list[tuple[int, str, str, int | None]]) -> Listing:
        """The first images of (environment, place, breed, number) folders one after the other."""
        files: list[Path] = []
        labels: list[int] = []
        groups: list[int] = []
        for environment, place, breed, number in parts:
            found = image_files(self.home / str(environment) / place / breed)[:number]
            label = _BREEDS.index(breed)
            files += found
            labels += [label] * len(found)
            groups += [len(_PLACES) * label + _PLACES.index(place)] * len(found)
        return Listing(files, labels, groups)
