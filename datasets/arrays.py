"""Images from one array file per split: `arrays[path=DIR]` reads DIR/train.npz and DIR/test.npz (or .safetensors)."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..core.data import DATASETS, ArrayImages, DataSource, ImageData, Split, array_fingerprint
from ..core.errors import UserError
from ..core.params import Count
from ._limits import check_classes, first


@DATASETS.register("arrays")
@dataclass(frozen=True)
class Arrays(DataSource):
    """Uint8 images and int labels from DIR/train.npz and DIR/test.npz (or .safetensors), optional groups and classes.json."""

    path: Path
    train_limit: Count | None = None  # the first N train images
    test_limit: Count | None = None

    def load(self) -> ImageData:
        folder = self.path.expanduser()
        if not folder.is_dir():
            raise UserError(f"folder {folder} does not exist; give a folder that holds train.npz and test.npz")
        train, test = read_split(folder, "train"), read_split(folder, "test")
        names = class_names(folder, train, test)
        train, test = first(train, self.train_limit), first(test, self.test_limit)
        check_classes(f"arrays in {folder}", train.labels, names)
        return ImageData(f"arrays[{folder.resolve().name}]", train, test, names, array_fingerprint(train, test))


def read_split(folder: Path, name: str) -> Split:
    """One split; images `(n, h, w, 3)`, `(n, 3, h, w)` or `(n, h, w)` uint8, labels `(n,)` int."""
    file = next((f for f in (folder / f"{name}.npz", folder / f"{name}.safetensors") if f.is_file()), None)
    if file is None:
        raise UserError(f"{folder} has no {name}.npz and no {name}.safetensors; see docs/datasets.md for the layout")
    arrays = read_arrays(file)
    for key in ("images", "labels"):
        if key not in arrays:
            raise UserError(f"{file} has no array {key!r}, only {', '.join(arrays)}")
    images, labels = channels_first(arrays["images"], file), as_labels(arrays["labels"], file)
    if len(images) != len(labels):
        raise UserError(f"{file}: {len(images)} images but {len(labels)} labels")
    groups = as_labels(arrays["groups"], file, "groups") if "groups" in arrays else None
    if groups is not None and len(groups) != len(images):
        raise UserError(f"{file}: {len(images)} images but {len(groups)} groups")
    return Split(ArrayImages(images), labels, groups)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz (without unpickling) or safetensors file."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (SafetensorError, BadZipFile, zlib.error, ValueError, TypeError, OSError, EOFError, NotImplementedError) as error:
        raise UserError(f"{file} cannot be read: {error}; it must hold plain arrays and be complete") from error


def channels_first(images: np.ndarray, file: Path) -> np.ndarray:
    if images.dtype != np.uint8:
        raise UserError(f"{file}: images are {images.dtype}; save them as uint8, 0 to 255")
    if images.ndim == 3:
        images = np.repeat(images[:, None], 3, axis=1)
    elif images.ndim == 4 and images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"{file}: images have shape {images.shape}; write (n, h, w, 3), (n, 3, h, w) or (n, h, w)")
    return np.ascontiguousarray(images)


def as_labels(labels: np.ndarray, file: Path, key: str = "labels") -> torch.Tensor:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{file}: {key} must be a vector of integers from 0, got {labels.dtype} {labels.shape}")
    if len(labels) and labels.min() < 0:
        raise UserError(f"{file}: {key} must be a vector of integers from 0, but the smallest is {labels.min()}")
    return torch.from_numpy(labels.astype(np.int64))


def class_names(folder: Path, train: Split, test: Split) -> tuple[str, ...]:
    """classes.json if there is one, otherwise the numbers 0..k-1."""
    count = int(max(train.labels.max(), test.labels.max())) + 1
    file = folder / "classes.json"
    if not file.is_file():
        return tuple(map(str, range(count)))
    try:
        names = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(names, list) or len(names) < count:
        raise UserError(f"{file} must be a list of at least {count} class names")
    return tuple(map(str, names))
