"""ArtBench-10 in its published image-folder layout."""

from dataclasses import dataclass

from ..core.data import DATASETS
from ._limits import Listing
from ._published import FileSet
from .folder import listings


@DATASETS.register("artbench")
@dataclass(frozen=True)
class ArtBench(FileSet):
    """ArtBench-10 (Liao et al. 2022): 50,000 / 10,000 paintings of 256 px, 10 styles.

    Layout of artbench-10-imagefolder-split.tar, linked in the README of github.com/liaopeiyuan/artbench ("256x256
    a-la-ImageFolder"): train/STYLE/IMAGE and test/STYLE/IMAGE.
    """

    folder = "artbench-10-imagefolder-split"
    needs = ("train", "test")
    manual = "unpack artbench-10-imagefolder-split.tar, linked at github.com/liaopeiyuan/artbench, there"
    images, classes = (50_000, 10_000), 10

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        train, test, names = listings(self.home)
        return train, test, tuple(names)
