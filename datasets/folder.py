"""Image folders: `folder[path=DIR,size=128]` reads DIR/train/CLASS/* and DIR/test/CLASS/*."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.data import DATASETS, DataSource, ImageData
from ..core.errors import UserError
from ..core.params import Count, Positive
from ._files import file_data
from ._limits import Listing

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
TEST_NAMES = ("test", "val", "valid", "validation")


@DATASETS.register("folder")
@dataclass(frozen=True)
class Folder(DataSource):
    """Image files in DIR/train/CLASS/* and DIR/test/CLASS/* (val in place of test), decoded to squares of `size` pixels."""

    path: Path
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once

    def load(self) -> ImageData:
        folder = self.path.expanduser()
        if not folder.is_dir():
            raise UserError(f"folder {folder} does not exist; give a folder that holds train/ and test/")
        train, test, names = listings(folder)
        name = f"{folder.resolve().name}[test={split_folder(folder, TEST_NAMES).name}]"
        return file_data(name, train, test, names, self.size, self.memory_limit_gb)


def listings(folder: Path) -> tuple[Listing, Listing, list[str]]:
    """Train files, test files (each with labels) and class names of `folder`."""
    train, test = split_folder(folder, ("train",)), split_folder(folder, TEST_NAMES)
    names, others = class_folders(train), class_folders(test)
    for has, lacks, where in ((names, others, test), (others, names, train)):
        if missing := sorted(set(has) - set(lacks)):
            raise UserError(f"class {missing[0]!r} is not in {where}; train and test need the same class folders")
    return class_listing(train, names), class_listing(test, names), names


def split_folder(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of `names` that is a folder."""
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise UserError(f"folder {folder} has no {names[0]}/; the layout is {names[0]}/CLASS/IMAGE")
    return found


def class_listing(folder: Path, names: Sequence[str]) -> Listing:
    """Files of the class folders `names` in this order, with their labels."""
    files, labels = [], []
    for label, name in enumerate(names):
        of_class = image_files(folder / name)
        files += of_class
        labels += [label] * len(of_class)
    return Listing(files, labels)


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders; hidden ones do not count."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UserError(f"{folder} holds no class folders; the layout is CLASS/IMAGE")
    return names


def image_files(folder: Path) -> list[Path]:
    """Image files of one class, sorted, subfolders and links to folders included, hidden files and folders not.

    A class without any is an error that names what is there instead.
    """
    entries: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        entries += (Path(parent, name) for name in names if not name.startswith("."))
    images = sorted(entry for entry in entries if entry.suffix.lower() in EXTENSIONS)
    if not images:
        others = ", ".join(sorted({entry.suffix or entry.name for entry in entries})) or "nothing"
        raise UserError(f"class folder {folder} holds no images (found {others}); add images or remove the folder")
    return images
