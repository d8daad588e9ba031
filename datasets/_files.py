"""Images in files: how one is decoded, and a dataset of many."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ..core.data import ImageData
from ..core.errors import UserError
from ._encoded import EncodedSplit, decoded_at, digest, each, encoded_data
from ._limits import Listing


def decode(file: Path | BinaryIO, size: int, name: str | None = None) -> np.ndarray:
    """One image as uint8 `(3, size, size)`: EXIF orientation, RGB, shorter side to `size` (antialiased), centre crop.

    `name` is what errors call the image, by default its path.
    """
    with named(name or file, "is corrupt or truncated"), Image.open(file) as opened:
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
    return image if image.mode == "RGB" else image.convert("RGB")


def check_header(file: Path | BinaryIO, name: str | None = None) -> None:
    """Open the file without decoding it; what is no image at all is found at once."""
    with named(name or file, "cannot be opened"), Image.open(file):
        pass


@contextlib.contextmanager
def named(file: object, what: str) -> Iterator[None]:
    """Turns any error of the block into one line that names the image file."""
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
        return decoded_at(self, indices)

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> None:
        def one(k: int) -> None:
            out[k] = decode(self.files[indices[k]], self.size)

        each(one, range(len(indices)))

    def content_key(self) -> str:
        return digest(each(_file_digest, self.files), self.size)

    def stamp_key(self) -> str:
        """Of names and byte sizes, as reading all bytes would take long."""
        return digest(each(file_stamp, self.files), self.size)

    def check_headers(self) -> None:
        each(check_header, self.files)


def file_data(
    name: str,
    train: Listing,
    test: Listing,
    names: Sequence[str],
    size: int,
    memory_limit_gb: float,
    groups: Sequence[str] = (),
) -> ImageData:
    """A dataset of image files; `groups` are the names of its groups."""
    train_split, test_split = (EncodedSplit(StreamedImages(x.files, size), x.labels, x.groups) for x in (train, test))
    return encoded_data(name, train_split, test_split, names, memory_limit_gb, groups)


def _file_digest(file: Path) -> str:
    with named(file, "cannot be read"), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def file_stamp(file: Path) -> str:
    with named(file, "cannot be read"):
        return f"{file.name}:{file.stat().st_size}"
