"""Image folders: `folder[path=DIR,size=128]` reads DIR/train/CLASS/* and DIR/test/CLASS/*."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.data import DATASETS, DataSource, ImageData
from ..core.errors import UserError
from ..core.params import Count, Positive
from ._files import file_data

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
_TEST_NAMES = ("test", "val", "valid", "validation")


@DATASETS.register("folder")
@dataclass(frozen=True)
class Folder(DataSource):
    """Image files in DIR/train/CLASS/* and DIR/test/CLASS/* (val in place of test), decoded to squares of `size` pixels."""

    path: Path
    size: Count = 256  # shorter side, then centre crop; pixels
    memory_limit_gb: Positive = 2.0  # larger sets are decoded at each access instead of once

    def load(self) -> ImageData:
        if not self.path.is_dir():
            raise UserError(f"folder {self.path} does not exist; give a folder that holds train/ and test/")
        train, test = self._split_folder(("train",)), self._split_folder(_TEST_NAMES)
        names = class_folders(train)
        if missing := set(class_folders(test)) ^ set(names):
            raise UserError(f"class {sorted(missing)[0]!r} is not in both {train} and {test}; both need the same")
        return file_data(self.path.name, _listing(train, names), _listing(test, names), names, self.size, self.memory_limit_gb)

    def _split_folder(self, names: tuple[str, ...]) -> Path:
        found = next((self.path / name for name in names if (self.path / name).is_dir()), None)
        if found is None:
            raise UserError(f"folder {self.path} has no {names[0]}/; the layout is {names[0]}/CLASS/IMAGE")
        return found


def _listing(folder: Path, names: list[str]) -> tuple[list[Path], list[int]]:
    """Files of all classes in order, with their labels."""
    files, labels = [], []
    for label, name in enumerate(names):
        of_class = list(image_files(folder / name))
        files += of_class
        labels += [label] * len(of_class)
    return files, labels


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders; hidden ones do not count."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UserError(f"{folder} holds no class folders; the layout is CLASS/IMAGE")
    return names


def image_files(folder: Path) -> Iterator[Path]:
    """Image files of one class, sorted. A class without any is an error that names what is there instead."""
    entries = sorted(entry for entry in folder.rglob("*") if entry.is_file() and not entry.name.startswith("."))
    images = [entry for entry in entries if entry.suffix.lower() in EXTENSIONS]
    if not images:
        others = ", ".join(sorted({entry.suffix or entry.name for entry in entries})) or "nothing"
        raise UserError(f"class folder {folder} holds no images (found {others}); add images or remove the folder")
    yield from images
