"""ImageNet-1k and its subsets: `imagenet[subset=imagenet-100]`, from class folders or from Hugging Face's parquet shards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np

from ..core.data import DATASETS, ImageData
from ..core.errors import UserError, unknown
from ..core.params import AfterValidator
from ._encoded import EncodedSplit, each, encoded_data
from ._imagenet_subsets import SUBSETS
from ._limits import Listing, in_rounds
from ._parquet import ParquetImages, missing_shards, read_labels, shards
from ._published import FileSet
from .folder import class_listing

_FOLDERS = ("train", "val")
_SHARDS = ("train", "validation")


def _known(subset: str) -> str:
    if subset not in SUBSETS:
        raise UserError(unknown("ImageNet subset", subset, list(SUBSETS)))
    return subset


@DATASETS.register("imagenet")
@dataclass(frozen=True)
class ImageNet(FileSet):
    """ImageNet-1k (Russakovsky et al. 2015) or a subset of its classes: train, and val as the test split.

    Layouts: train/WNID/IMAGE and val/WNID/IMAGE (docs.pytorch.org/vision, datasets.ImageNet); or data/train-*.parquet and
    data/validation-*.parquet (huggingface.co/datasets/ILSVRC/imagenet-1k, labels 0 to 999 in the order of the WNIDs).
    Where both are there, the folders count.
    """

    subset: Annotated[str, AfterValidator(_known)] = "imagenet-1k"  # imagenet-100, imagenet-birds, ...; LGM, released code

    folder = "imagenet"
    manual = (
        "register at image-net.org and unpack train/WNID/* and val/WNID/* there, "
        "or download the parquet files of ILSVRC/imagenet-1k into data/"
    )

    def load(self) -> ImageData:
        if not self._in_parquet():
            return super().load()
        train, test = self._rows(0, self.train_limit), self._rows(1, self.test_limit)
        return encoded_data(self.name, train, test, self.wnids(), self.memory_limit_gb, limited=self.train_limit is not None)

    def absent(self) -> list[str]:
        layout = [f"data/{name}-*.parquet" for name in _SHARDS] if self._in_parquet() else _FOLDERS
        return [need for need in layout if not any(self.home.glob(need))]

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        if lacking := self._lacking():
            raise UserError(lacking[0])
        wnids = self.wnids()
        train, test = (class_listing(self.home / name, wnids) for name in _FOLDERS)
        return train, test, wnids

    def check(self) -> Iterator[str]:
        if self.absent():
            yield from super().check()
        elif self._in_parquet():
            yield from self._check_shards()
        elif lacking := self._lacking():
            yield from lacking
        else:
            yield from super().check()

    def _check_shards(self) -> Iterator[str]:
        gone = [name for split in _SHARDS for name in missing_shards(shards(self.home / "data", split))]
        if gone:
            yield from (f"{self.home / 'data' / name} is missing; download it" for name in gone)
            return
        try:
            found = [len(self._rows(split, None).labels) for split in range(2)]
        except UserError as error:
            yield str(error)
            return
        yield from self.wrong_numbers(*found)

    def due(self) -> tuple[int | None, int | None]:
        """A class has 50 validation images; how many train images a subset has is not published."""
        classes = len(self.wnids())
        return (1_281_167 if classes == 1000 else None), 50 * classes

    def published_sizes(self) -> tuple[int, int, int] | None:
        """ImageNet-100 (Tian et al., Contrastive Multiview Coding) is from memory."""
        train, test, classes = *self.due(), len(self.wnids())
        train = {1000: train, 100: 126_689}.get(classes)
        if train is None or test is None:
            return None
        return min(train, self.train_limit or train), min(test, self.test_limit or test), classes

    def wnids(self) -> tuple[str, ...]:
        """Synset names of the classes, in the order of the labels."""
        return tuple(_synsets()[index] for index in SUBSETS[self.subset])

    def _in_parquet(self) -> bool:
        return not (self.home / "train").is_dir() and (self.home / "data").is_dir()

    def _lacking(self) -> list[str]:
        """One line for each of train/ and val/ that lacks class folders."""
        wnids, lines = self.wnids(), []
        for name in _FOLDERS:
            there = {entry.name for entry in (self.home / name).iterdir() if entry.is_dir()}
            if lacking := [wnid for wnid in wnids if wnid not in there]:
                count = f"{len(lacking):,} of the {len(wnids):,} class folders of {self.subset}"
                lines.append(f"{self.home / name} lacks {count}, first {lacking[0]}; images must be sorted into {name}/WNID/")
        return lines

    def _rows(self, split: int, limit: int | None) -> EncodedSplit:
        files = shards(self.home / "data", _SHARDS[split])
        if gone := missing_shards(files) if files else [f"{_SHARDS[split]}-*.parquet"]:
            raise self.missing(f"no data/{gone[0]}")
        places, labels = _chosen(files, SUBSETS[self.subset])
        kept = in_rounds(labels, limit)
        return EncodedSplit(ParquetImages(files, places[kept], self.size, self.background), [labels[index] for index in kept])


def _chosen(files: Sequence[Path], classes: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Places `(n, 3)` of the rows of these classes, as in `ParquetImages`, and their labels as positions in `classes`."""
    label_of = np.full(1000, -1)
    label_of[list(classes)] = np.arange(len(classes))
    places, labels = [], []
    for number, (rows, stored) in enumerate(each(read_labels, files)):
        found = stored.astype(np.int64)
        if len(found) and not 0 <= found.min() <= found.max() < 1000:
            raise UserError(f"{files[number]} has labels from {found.min()} to {found.max()} instead of 0 to 999")
        kept = label_of[found] >= 0
        places.append(np.column_stack([np.full(kept.sum(), number), rows[kept]]))
        labels += label_of[found[kept]].tolist()
    return np.concatenate(places), labels


@cache
def _synsets() -> list[str]:
    """The 1,000 WNIDs in the order of the class indices."""
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo().label_names()
