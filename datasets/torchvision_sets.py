"""Datasets of torchvision in their published layouts, found under `root` and downloaded only when asked to.

Official splits; EuroSAT has none (stratified 80/20, fixed seed). Flowers-102 trains on its 1,020 official train images as LGM
does, DTD on train + val of partition 1, Pets and Aircraft on trainval.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import datasets as tv

from ..core.data import DATASETS, ArrayImages, DataSource, ImageData, Split, array_fingerprint, stratified_indices
from ..core.errors import UserError
from ..core.network import online
from ..core.params import Count
from ._limits import Listing, check_classes, first
from ._notes import described
from ._published import FileSet, default_root, missing


@dataclass(frozen=True)
class _TorchvisionSource(DataSource):
    """Finds a torchvision dataset under `root`; subclasses say how to open its parts."""

    root: Path = field(default_factory=default_root)  # the folder that holds the set's own folder
    download: bool = False
    folder: ClassVar[str]  # what torchvision expects under `root`
    manual: ClassVar[str] = ""  # how to get data that torchvision cannot download

    def opened(self, cls: Callable[..., Any], **arguments: Any) -> Any:
        """The torchvision dataset object; a one-line error where its files are missing or fail their checksum.

        torchvision reads CIFAR by pickle, and only after the md5 of every file has matched the published one.
        """
        if not self.manual:
            arguments["download"] = self.download and online()
        try:
            return cls(str(self.root.expanduser()), **arguments)
        except Exception as error:  # its parsers raise whatever the damage leads to: RuntimeError, KeyError, MatReadError ...
            raise self.missing(" ".join(str(error).split())[:120] or type(error).__name__) from error

    def missing(self, reason: str) -> UserError:
        """What to do about data that is not there."""
        cure = self.manual or f"run once with {self.name}[download=true]"
        return missing(self.name, self.root, self.folder, reason, cure)


@dataclass(frozen=True)
class _InMemory(_TorchvisionSource):
    """Small sets of one image size, held in memory."""

    train_limit: Count | None = None  # the first N train images
    test_limit: Count | None = None

    parts: ClassVar[tuple[dict[str, Any], dict[str, Any]]] = ({"train": True}, {"train": False})
    dataset: ClassVar[Callable[..., Any]]
    mirror: ClassVar[bool] = True
    sizes: ClassVar[tuple[int, int, int]]  # published train images, test images, classes

    def published_sizes(self) -> tuple[int, int, int]:
        train, test, classes = self.sizes
        return min(train, self.train_limit or train), min(test, self.test_limit or test), classes

    def load(self) -> ImageData:
        cls = type(self).__dict__["dataset"]
        train, test = (self.opened(cls, **part) for part in self.parts)
        names = tuple(map(str, getattr(train, "classes", range(10))))
        splits = first(_array_split(train), self.train_limit), first(_array_split(test), self.test_limit)
        check_classes(self.name, splits[0].labels, names, self.train_limit is not None)
        fingerprint = array_fingerprint(*splits)
        return described(ImageData(self.name, *splits, class_names=names, fingerprint=fingerprint, mirror=self.mirror))


def _array_split(dataset: Any) -> Split:
    """torchvision keeps CIFAR as (n, h, w, 3) with `targets`, SVHN and STL-10 as (n, 3, h, w) with `labels`."""
    images = dataset.data
    if images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = getattr(dataset, "targets", None)
    labels = dataset.labels if labels is None else labels
    return Split(ArrayImages(np.ascontiguousarray(images)), torch.as_tensor(np.asarray(labels), dtype=torch.int64))


@DATASETS.register("cifar10")
@dataclass(frozen=True)
class CIFAR10(_InMemory):
    """CIFAR-10 (Krizhevsky 2009): 50,000 / 10,000 images of 32 px, 10 classes."""

    dataset, folder = tv.CIFAR10, "cifar-10-batches-py"
    sizes = (50_000, 10_000, 10)


@DATASETS.register("cifar100")
@dataclass(frozen=True)
class CIFAR100(_InMemory):
    """CIFAR-100 (Krizhevsky 2009): 50,000 / 10,000 images of 32 px, 100 classes."""

    dataset, folder = tv.CIFAR100, "cifar-100-python"
    sizes = (50_000, 10_000, 100)


@DATASETS.register("stl10")
@dataclass(frozen=True)
class STL10(_InMemory):
    """STL-10 (Coates et al. 2011): 5,000 / 8,000 labelled images of 96 px, 10 classes."""

    parts = ({"split": "train"}, {"split": "test"})
    dataset, folder = tv.STL10, "stl10_binary"
    sizes = (5_000, 8_000, 10)


@DATASETS.register("svhn")
@dataclass(frozen=True)
class SVHN(_InMemory):
    """SVHN (Netzer et al. 2011): 73,257 / 26,032 house-number digits of 32 px, 10 classes."""

    parts = ({"split": "train"}, {"split": "test"})
    dataset, folder = tv.SVHN, "train_32x32.mat"
    mirror = False
    sizes = (73_257, 26_032, 10)


@dataclass(frozen=True)
class _Files(_TorchvisionSource, FileSet):
    """Sets of image files of varying size, decoded to squares of `size` pixels."""

    def check_count(self, names: tuple[str, ...]) -> None:
        """torchvision reads the classes from the set's own lists."""

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        cls, names = type(self).__dict__["dataset"], None
        both = []
        for parts in type(self).__dict__["parts"]:
            opened = [self.opened(cls, **part) for part in parts]
            names = names or getattr(opened[0], "classes", None)
            both.append(_joined([_listed(dataset) for dataset in opened]))
        names = tuple(names or map(str, range(1 + max(both[0].labels))))
        return both[0], both[1], tuple(map(str, names))


def _listed(dataset: Any) -> Listing:
    """torchvision keeps files and labels under one of three pairs of names."""
    samples = getattr(dataset, "_samples", None) or getattr(dataset, "samples", None)
    if samples is not None:
        return Listing([Path(file) for file, _ in samples], [int(label) for _, label in samples])
    files = getattr(dataset, "_image_files", None) or dataset._images
    return Listing([Path(file) for file in files], [int(label) for label in dataset._labels])


def _joined(parts: list[Listing]) -> Listing:
    return Listing([file for part in parts for file in part.files], [label for part in parts for label in part.labels])


_TRAIN, _VAL, _TEST, _TRAINVAL = ({"split": name} for name in ("train", "val", "test", "trainval"))


@DATASETS.register("flowers102")
@dataclass(frozen=True)
class Flowers102(_Files):
    """Oxford Flowers-102 (Nilsback and Zisserman 2008): official train 1,020 / test 6,149 images, 102 classes."""

    dataset, parts, folder = tv.Flowers102, ([_TRAIN], [_TEST]), "flowers-102"
    images, classes = (1_020, 6_149), 102


@DATASETS.register("food101")
@dataclass(frozen=True)
class Food101(_Files):
    """Food-101 (Bossard et al. 2014): 75,750 / 25,250 images, 101 classes."""

    dataset, parts, folder = tv.Food101, ([_TRAIN], [_TEST]), "food-101"
    images, classes = (75_750, 25_250), 101


@DATASETS.register("pets")
@dataclass(frozen=True)
class Pets(_Files):
    """Oxford-IIIT Pets (Parkhi et al. 2012): trainval 3,680 / test 3,669 images, 37 classes."""

    dataset, parts, folder = tv.OxfordIIITPet, ([_TRAINVAL], [_TEST]), "oxford-iiit-pet"
    images, classes = (3_680, 3_669), 37


@DATASETS.register("dtd")
@dataclass(frozen=True)
class DTD(_Files):
    """Describable Textures (Cimpoi et al. 2014), partition 1: train + val 3,760 / test 1,880 images, 47 classes."""

    dataset, parts, folder = tv.DTD, ([_TRAIN, _VAL], [_TEST]), "dtd"
    images, classes = (3_760, 1_880), 47


@DATASETS.register("gtsrb")
@dataclass(frozen=True)
class GTSRB(_Files):
    """German Traffic Signs (Stallkamp et al. 2012): 26,640 / 12,630 images, 43 classes."""

    dataset, parts, folder = tv.GTSRB, ([_TRAIN], [_TEST]), "gtsrb"
    mirror = False  # keep left, keep right
    images, classes = (26_640, 12_630), 43


@DATASETS.register("aircraft")
@dataclass(frozen=True)
class Aircraft(_Files):
    """FGVC Aircraft (Maji et al. 2013), variants: trainval 6,667 / test 3,333 images, 100 classes."""

    dataset, parts, folder = tv.FGVCAircraft, ([_TRAINVAL], [_TEST]), "fgvc-aircraft-2013b"
    images, classes = (6_667, 3_333), 100


@DATASETS.register("cars")
@dataclass(frozen=True)
class Cars(_Files):
    """Stanford Cars (Krause et al. 2013): 8,144 / 8,041 images, 196 classes; its download site is gone."""

    dataset, parts, folder = tv.StanfordCars, ([_TRAIN], [_TEST]), "stanford_cars"
    images, classes = (8_144, 8_041), 196
    manual = "its site is gone, place cars_train, cars_test, devkit and cars_test_annos_withlabels.mat there"


@DATASETS.register("eurosat")
@dataclass(frozen=True)
class EuroSAT(_Files):
    """EuroSAT RGB (Helber et al. 2019): 27,000 images of 64 px, 10 classes; no official split, stratified 80/20 here."""

    size: Count = 64

    folder = "eurosat"

    def listing(self) -> tuple[Listing, Listing, tuple[str, ...]]:
        opened = self.opened(tv.EuroSAT)
        listed = _listed(opened)
        rest, part = stratified_indices(torch.tensor(listed.labels), 0.2, 0)
        return listed.take(rest.tolist()), listed.take(part.tolist()), tuple(opened.classes)
