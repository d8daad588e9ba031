"""Images from arrays: `arrays[path=DIR]` reads DIR/train.npz and DIR/test.npz (or .safetensors), `arrays[path=FILE]` both."""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageColor
from safetensors import safe_open

from ..core.data import DATASETS, ArrayImages, DataSource, ImageData, Split, array_fingerprint
from ..core.errors import UserError
from ..core.params import Count
from ._decode import Colour
from ._labels import Labels, numbered, plain_labels
from ._limits import check_classes, first
from ._notes import described
from .folder import with_mirror

_BOMB_BYTES, _BOMB_RATIO = 1 << 28, 100  # unpacked; and times the packed size: pixels never shrink that much
# how one file that holds both splits calls its arrays: MedMNIST and others; Keras
_LAYOUTS = ("{split}_{what}", "{letter}_{split}")
_LETTERS = {"images": "x", "labels": "y", "groups": "groups"}


@DATASETS.register("arrays")
@dataclass(frozen=True)
class Arrays(DataSource):
    """Uint8 images and labels from DIR/train.npz and DIR/test.npz (or .safetensors), or from one file with both splits.

    Optional: groups, and DIR/classes.json. One file holds train_images, train_labels, test_images, test_labels (MedMNIST), or
    x_train, y_train, x_test, y_test (Keras).
    """

    path: Path
    train_limit: Count | None = None  # the first N train images
    test_limit: Count | None = None
    background: Colour = "white"  # under transparent pixels of images with four channels
    mirror: bool = True  # whether mirrored images still show their class

    def load(self) -> ImageData:
        path = self.path.expanduser()
        if not path.exists():
            raise UserError(f"{path} does not exist; give a folder that holds train.npz and test.npz, or one .npz of both")
        folder = path if path.is_dir() else path.parent
        parts = [_stored(path, split, self.background) for split in ("train", "test")]
        classes = numbered([part.labels for part in parts], path, class_names(folder) if path.is_dir() else None)
        train, test = (
            Split(ArrayImages(part.images), torch.from_numpy(labels), part.groups)
            for part, labels in zip(parts, classes.labels, strict=True)
        )
        train, test = first(train, self.train_limit), first(test, self.test_limit)
        check_classes(f"arrays in {path}", train.labels, classes.names, self.train_limit is not None)
        name = f"arrays[{path.resolve().name if path.is_dir() else path.stem}]"
        data = ImageData(name, train, test, classes.names, array_fingerprint(train, test), class_order=classes.order)
        notes = [f"{split}: {note}" for split, part in zip(("train", "test"), parts, strict=True) for note in part.notes]
        return with_mirror(described(data, [*classes.notes, *notes]), self.mirror)


@dataclass(frozen=True)
class _Stored:
    """One split as its file holds it, images uint8 `(n, 3, h, w)`."""

    images: np.ndarray
    labels: Labels
    groups: torch.Tensor | None
    notes: list[str]


def _stored(path: Path, split: str, background: str) -> _Stored:
    file = split_file(path, split)
    with opened_arrays(file) as arrays:
        keys = {what: what for what in _LETTERS} if path.is_dir() else _keys_of(arrays, split, file)
        for key in (keys["images"], keys["labels"]):
            if key not in arrays:
                raise UserError(f"{file} has no array {key!r}, only {', '.join(arrays)}")
        images, notes = channels_first(arrays[keys["images"]], file, background)
        labels = plain_labels(arrays[keys["labels"]], file, keys["labels"])
        groups = plain_labels(arrays[keys["groups"]], file, "groups").values if keys["groups"] in arrays else None
        if not path.is_dir() and split == "test" and (others := [key for key in arrays if "val" in key.split("_")]):
            notes.append(f"{', '.join(others)} of {file.name} are not read")
    for what, found in (("labels", labels.values), ("groups", groups)):
        if found is not None and len(found) != len(images):
            raise UserError(f"{file}: {len(images)} images but {len(found)} {what}")
    if groups is not None and groups.dtype.kind == "U":
        raise UserError(f"{file}: groups must be whole numbers from 0")
    return _Stored(images, labels, None if groups is None else torch.from_numpy(groups), notes)


def split_file(path: Path, split: str) -> Path:
    """The file of one split."""
    if not path.is_dir():
        return path
    file = next((f for f in (path / f"{split}.npz", path / f"{split}.safetensors") if f.is_file()), None)
    if file is None:
        single = sorted(path.glob("*.npz"))
        hint = f"if {single[0].name} holds both splits, give it: path={single[0]}" if single else "see docs/datasets.md"
        raise UserError(f"{path} has no {split}.npz and no {split}.safetensors; {hint}")
    return file


def _keys_of(arrays: Mapping[str, Any], split: str, file: Path) -> dict[str, str]:
    for layout in _LAYOUTS:
        keys = {what: layout.format(split=split, what=what, letter=letter) for what, letter in _LETTERS.items()}
        if keys["images"] in arrays:
            return keys
    cure = "one file of both splits holds train_images, train_labels, test_images and test_labels"
    raise UserError(f"{file} has no array '{split}_images', only {', '.join(list(arrays)[:8])}; {cure}")


class _Arrays(Mapping):
    """Arrays of an open file by name, read when asked for."""

    def __init__(self, names: list[str], read: Any):
        self._names, self._read = names, read

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._names:
            raise KeyError(key)
        return self._read(key)

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextlib.contextmanager
def opened_arrays(file: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an npz (never unpickled) or safetensors file by name. Whatever is wrong with it becomes one line."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy") as opened:
                yield _Arrays(list(opened.keys()), opened.get_tensor)
            return
        with zipfile.ZipFile(file) as archive:
            check_packing(archive, file)
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            yield _Arrays(archive.files, archive.__getitem__)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist") from error
    except Exception as error:  # zipfile, zlib, NumPy and safetensors raise whatever the damage leads to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        cure = "save text as fixed-length strings (labels.astype(str))" if "allow_pickle" in reason else "it must be complete"
        raise UserError(f"{file} cannot be read: {reason}; it must hold plain arrays, {cure}") from error


def check_packing(archive: zipfile.ZipFile, file: Path) -> None:
    """Refuse a file that unpacks to absurdly more than it is, or whose arrays claim more than is packed."""
    for entry in archive.infolist():
        if entry.file_size > _BOMB_BYTES and entry.file_size > _BOMB_RATIO * entry.compress_size:
            size = f"{entry.file_size / 1e9:,.1f} GB from {entry.compress_size / 1e6:,.1f} MB"
            raise UserError(f"{file}: {entry.filename} unpacks to {size}; save it uncompressed if that is meant")
        if entry.filename.endswith(".npy"):
            with archive.open(entry) as opened:
                claimed = _claimed_bytes(opened)
            if claimed is not None and claimed > entry.file_size:
                size = f"{claimed / 1e9:,.1f} GB" if claimed > 1e9 else f"{claimed:,} bytes"
                raise UserError(f"{file}: {entry.filename} claims {size} and holds {entry.file_size:,} bytes; save it again")


def _claimed_bytes(opened: Any) -> int | None:
    """Size of the array that a .npy header announces; None for what NumPy itself will refuse."""
    try:
        version = np.lib.format.read_magic(opened)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(opened)
    except ValueError:
        return None
    size = dtype.itemsize
    for side in shape:
        size *= side
    return size


def channels_first(images: np.ndarray, file: Path, background: str = "white") -> tuple[np.ndarray, list[str]]:
    """Images uint8 `(n, 3, h, w)` from grey, RGB or RGBA, channels first or last; and notes on what was done."""
    notes, shape = [], images.shape
    if images.dtype.kind == "u" and images.dtype.itemsize == 2:
        images = ((images.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        notes.append("images of 16 bits per channel, scaled to 8")
    if images.dtype != np.uint8:
        raise UserError(f"{file}: images are {images.dtype}; save them as uint8, 0 to 255")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and _channels_last(shape):
        images = images.transpose(0, 3, 1, 2)
    channels = images.shape[1] if images.ndim == 4 else 0
    if images.size == 0 or not (channels == 3 or (channels in (1, 4) and (len(shape) == 3 or min(images.shape[2:]) > 4))):
        raise UserError(f"{file}: images have shape {shape}; write (n, h, w, 3), (n, 3, h, w) or (n, h, w)")
    if images.shape[1] == 1:
        images = np.repeat(images, 3, axis=1)
    if images.shape[1] == 4:
        images, transparent = composited(images, background)
        have = "images have" if transparent > 1 else "image has"
        notes += [f"{transparent:,} {have} transparent pixels, composited on {background}"] * bool(transparent)
    return np.ascontiguousarray(images), notes


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether `(n, a, b, c)` is (n, h, w, channels); images of one or four channels have sides of more than four pixels."""
    return shape[3] == 3 or (shape[3] in (1, 4) and shape[1] > 4)


def composited(images: np.ndarray, background: str) -> tuple[np.ndarray, int]:
    """RGBA uint8 `(n, 4, h, w)` on a colour, uint8 `(n, 3, h, w)`, and how many of them are transparent anywhere."""
    colour = np.array(ImageColor.getrgb(background), np.float32)[:, None, None]
    out = np.empty((len(images), 3, *images.shape[2:]), np.uint8)
    for k, image in enumerate(images):
        share = image[3:].astype(np.float32) / 255
        out[k] = np.rint(image[:3] * share + colour * (1 - share))
    return out, int((images[:, 3].reshape(len(images), -1).min(1) < 255).sum())


def class_names(folder: Path) -> list[str] | None:
    """classes.json if there is one: a list, a name for every number from 0."""
    file = folder / "classes.json"
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(names, list):
        raise UserError(f"{file} must be a list of class names, a name for every number from 0")
    return [str(name) for name in names]
