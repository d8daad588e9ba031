"""Images in files: decoded once into the array store where they fit, decoded at each access where they do not."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.data import ArrayImages, ImageData, Images, Split
from ..core.errors import UserError
from ..core.store import ArrayStore, default_cache
from ._limits import Listing, check_classes

_BLOCK = 4096  # tasks in the queue at once; a million of them would take a gigabyte
_LAYOUT = "1"  # raised when decoding changes


def decode(file: Path, size: int) -> np.ndarray:
    """One image as uint8 `(3, size, size)`: EXIF orientation, RGB, shorter side to `size` (antialiased), centre crop."""
    with _named(file, "is corrupt or truncated"), Image.open(file) as opened:
        opened.load()
        image = _rgb(_upright(opened))
    side = min(image.size)
    if side != size:
        width, height = (max(size, round(length * size / side)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # a picture with broken EXIF is still a picture
        return ImageOps.exif_transpose(image)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Alpha is dropped. Pillow would clip 16-bit and float pixels at 255, that is, to white."""
    if image.mode[0] in "IF":
        raise ValueError(f"{image.mode} pixels, write 8 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def check_header(file: Path) -> None:
    """Open the file without decoding it; what is no image at all is found at once."""
    with _named(file, "cannot be opened"), Image.open(file):
        pass


@contextlib.contextmanager
def _named(file: Path, what: str) -> Iterator[None]:
    """Turns any error of the block into one line that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"image {file} is missing; the set is incomplete, unpack or download it again") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, DecompressionBombError and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"image {file} {what}: {reason}; replace or remove it") from error


@dataclass(frozen=True)
class StreamedImages:
    """Files decoded at each access, by a thread per core (Pillow releases the interpreter while it decodes)."""

    files: Sequence[Path]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        out = np.empty((len(indices), 3, self.size, self.size), np.uint8)
        self.decode_into(out, indices.tolist())
        return torch.from_numpy(out)

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> None:
        """Image `indices[k]` into `out[k]`."""

        def one(k: int) -> None:
            out[k] = decode(self.files[indices[k]], self.size)

        _each(one, range(len(indices)))


def file_data(name: str, train: Listing, test: Listing, names: Sequence[str], size: int, memory_limit_gb: float) -> ImageData:
    """A dataset of image files; its fingerprint covers contents (see `decoded` and `streamed`), labels and class names.

    Sets that take at most `memory_limit_gb` when both splits are decoded are decoded at once, larger ones stream.
    """
    check_classes(name, torch.tensor(train[1]), names)
    fits = (len(train[0]) + len(test[0])) * 3 * size * size <= memory_limit_gb * 1e9
    splits, digest = [], hashlib.sha256("/".join(names).encode())
    for files, labels in (train, test):
        images, content = (decoded if fits else streamed)(StreamedImages(files, size))
        digest.update(f"{content}{list(labels)}".encode())
        splits.append(Split(images, torch.tensor(labels)))
    return ImageData(name, *splits, class_names=tuple(names), fingerprint=digest.hexdigest())


def decoded(source: StreamedImages) -> tuple[Images, str]:
    """All images, decoded once into a memory-mapped array that later processes share; its key is the files' bytes."""
    key = _digest(_each(_file_digest, source.files), source.size)
    store = _store()
    found = store.get(key)
    if found is None:
        with store.create(key, (len(source), 3, source.size, source.size), np.dtype(np.uint8)) as out:
            source.decode_into(out, range(len(source)))
        found = store.get(key)
        assert found is not None
    return ArrayImages(found), key


def streamed(source: StreamedImages) -> tuple[Images, str]:
    """The source itself, its headers checked; told apart by names and byte sizes, as reading all bytes would take long.

    That the headers were found good is noted in the store, so that each process need not open a million files.
    """
    key = _digest(_each(_file_size, source.files), source.size)
    store = _store()
    if "headers" not in store.meta(key):
        _each(check_header, source.files)
        store.annotate(key, {"headers": len(source)})
    return source, key


def _store() -> ArrayStore:
    return ArrayStore(default_cache() / "images")


def _file_digest(file: Path) -> str:
    with _named(file, "cannot be read"), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _file_size(file: Path) -> str:
    with _named(file, "cannot be read"):
        return f"{file.name}:{file.stat().st_size}"


def _digest(parts: Sequence[str], size: int) -> str:
    return hashlib.sha256("\n".join([_LAYOUT, str(size), *parts]).encode()).hexdigest()


def _each(function: Callable, items: Sequence) -> list:
    """`function` of all items, by a thread per core; the first error in the order of the items is raised."""
    with ThreadPoolExecutor(_cores()) as pool:
        blocks = (items[start : start + _BLOCK] for start in range(0, len(items), _BLOCK))
        return [result for block in blocks for result in pool.map(function, block)]


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
