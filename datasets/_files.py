"""Images in files: decoded once into the array store where they fit, decoded at each access where they do not."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..core.data import ArrayImages, ImageData, Images, Split
from ..core.errors import UserError
from ..core.store import ArrayStore, default_cache

_DECODE_CHUNK = 256
_LAYOUT = "1"  # raised when decoding changes


def decode(file: Path, size: int) -> np.ndarray:
    """One image as uint8 `(3, size, size)`: EXIF orientation, RGB, shorter side to `size` (antialiased), centre crop."""
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"image {file} is corrupt or truncated: {error}; replace or remove it") from error
    side = min(image.size)
    if side != size:
        width, height = (max(size, round(length * size / side)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def check_header(file: Path) -> None:
    """Open the file without decoding it; what is no image at all is found at once."""
    try:
        with Image.open(file):
            pass
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"image {file} cannot be opened: {error}; replace or remove it") from error


@dataclass(frozen=True)
class StreamedImages:
    """Files decoded at each access, by a thread per core (Pillow releases the interpreter while it decodes)."""

    files: Sequence[Path]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor) -> Tensor:
        chosen = [self.files[i] for i in indices.tolist()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.from_numpy(np.stack(list(pool.map(lambda file: decode(file, self.size), chosen))))


Listing = tuple[Sequence[Path], Sequence[int]]  # files and their labels


def file_data(name: str, train: Listing, test: Listing, names: Sequence[str], size: int, memory_limit_gb: float) -> ImageData:
    """A dataset of image files; its fingerprint covers contents (see `open_images`), labels and class names."""
    splits, digest = [], hashlib.sha256("/".join(names).encode())
    for files, labels in (train, test):
        images, content = open_images(files, size, memory_limit_gb)
        digest.update(f"{content}{list(labels)}".encode())
        splits.append(Split(images, torch.tensor(labels)))
    return ImageData(name, *splits, class_names=tuple(names), fingerprint=digest.hexdigest())


def open_images(files: Sequence[Path], size: int, memory_limit_gb: float) -> tuple[Images, str]:
    """Images of `files` and a fingerprint of their content.

    Sets that take at most `memory_limit_gb` decoded are decoded completely, once, into a memory-mapped array that later
    processes share, and are addressed by the bytes of the files. Larger ones stream; they are told apart by names and
    sizes of the files, their headers are checked now, and a corrupt file is named when it is met.
    """
    streamed = StreamedImages(files, size)
    if len(files) * 3 * size * size > memory_limit_gb * 1e9:
        _each(check_header, files)
        return streamed, _digest([f"{file.name}:{file.stat().st_size}" for file in files], size)
    key = _digest(_each(_file_digest, files), size)
    return ArrayImages(_decoded(streamed, key)), key


def _decoded(streamed: StreamedImages, key: str) -> np.ndarray:
    store = ArrayStore(default_cache() / "images")
    found = store.get(key)
    if found is None:
        with store.create(key, (len(streamed), 3, streamed.size, streamed.size), np.dtype(np.uint8)) as out:
            for chunk in torch.arange(len(streamed)).split(_DECODE_CHUNK):
                out[chunk[0] : chunk[-1] + 1] = streamed[chunk].numpy()
        found = store.get(key)
        assert found is not None
    return found


def _file_digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(parts: Sequence[str], size: int) -> str:
    return hashlib.sha256("\n".join([_LAYOUT, str(size), *parts]).encode()).hexdigest()


def _each(function: Callable, items: Sequence) -> list:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
