"""Encoded images that lie many to a file: what parquet shards, Arrow files and tar shards have in common."""

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from ._decode import Seen, look, square
from ._encoded import decoded_at, each

T = TypeVar("T")

READABLE = 4 << 30  # bytes of files of which every image is looked at
_BLOCK = 512  # images read before they are decoded; each takes about 100 kB


class Packed:
    """Images read in blocks and decoded at each access, by a thread per core. Subclasses say how to read some of them."""

    size: int
    background: str

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What people know image `index` by."""
        raise NotImplementedError

    def read(self, indices: Sequence[int]) -> list[tuple[int, bytes]]:
        """(k, encoded image `indices[k]`) of all k, in any order."""
        raise NotImplementedError

    def total_bytes(self) -> int:
        """Of the files."""
        raise NotImplementedError

    def content_key(self) -> str:
        """As `Encoded` asks for."""
        raise NotImplementedError

    def stamp_key(self) -> str:
        """As `Encoded` asks for."""
        raise NotImplementedError

    def __getitem__(self, indices: Tensor) -> Tensor:
        return decoded_at(self, indices)

    def decode_into(self, out: np.ndarray, indices: Sequence[int]) -> list[Seen]:
        def one(item: tuple[int, bytes]) -> Seen:
            k, encoded = item
            out[k], seen = square(io.BytesIO(encoded), self.size, self.background, self.name(indices[k]))
            return seen

        return self._each(one, indices)

    def look(self) -> list[Seen]:
        """Of files that are too large to be read, at the images of `samples`."""
        chosen = range(len(self)) if self.total_bytes() <= READABLE else self.samples()
        return self._each(lambda item: look(io.BytesIO(item[1]), self.name(chosen[item[0]])), chosen)

    def samples(self) -> Sequence[int]:
        """A few images that stand for all."""
        return range(min(len(self), _BLOCK))

    def twin_keys(self) -> list[bytes] | None:
        if self.total_bytes() > READABLE:
            return None
        return self._each(lambda item: _hash(item[1]), range(len(self)))

    def confirm(self, index: int) -> bytes:
        return _hash(self.read([index])[0][1])

    def _each(self, function: Callable[[tuple[int, bytes]], T], indices: Sequence[int]) -> list[T]:
        """`function` of (k, encoded image `indices[k]`) for all k, in their order."""
        found: dict[int, T] = {}
        for start in range(0, len(indices), _BLOCK):
            block = [(start + k, encoded) for k, encoded in self.read(indices[start : start + _BLOCK])]
            found.update(zip((k for k, _ in block), each(function, block), strict=True))
        return [found[k] for k in range(len(indices))]


def _hash(encoded: bytes) -> bytes:
    return hashlib.blake2b(encoded, digest_size=16).digest()
