"""Real image data: uint8 images, integer labels, a train and a test split."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from . import registries
from .registry import Registry


class Images(Protocol):
    """Random access to uint8 images of one size; may read from disk at each access, and may be asked by two threads at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Images at `indices (k,)`, uint8 `(k, 3, h, w)`."""
        ...


@dataclass(frozen=True)
class ArrayImages:
    """Images in one array or memory map, uint8 `(n, 3, h, w)`."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.array[indices.numpy()]))


@dataclass(frozen=True)
class Selection:
    """The images of `source` at `indices`, without a copy."""

    source: Images
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.source[self.indices[indices]]


@dataclass(frozen=True)
class Split:
    """One split: images, labels `(n,)` int64 in 0..k-1 and, where the data has them, groups `(n,)` int64."""

    images: Images
    labels: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "Split":
        groups = None if self.groups is None else self.groups[indices]
        return Split(Selection(self.images, indices), self.labels[indices], groups)


@dataclass(frozen=True)
class ImageData:
    """A dataset with a train and a test split.

    `fingerprint` is a sha256 that changes when any image, label or split changes. Group g of the splits is called
    `group_names[g]`; a split need not hold all of them.

    `notes`: what was noticed that a number on this data has to carry, a line each; records keep them as `data_notes`.
    `facts`: the counts behind them, JSON-ready; `ddbench data check` shows them. `class_order` says how classes came to their
    numbers. `mirror`: whether a mirrored image still shows its class, which digits, letters and traffic signs do not.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    fingerprint: str
    group_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    class_order: str = "as published"
    mirror: bool = True

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


class DataSource:
    """Contract of a dataset plugin: a frozen dataclass whose fields are its parameters, with `load` and perhaps `check`.

    `load` raises `UserError` that names a missing or corrupt file.
    """

    name: str

    def load(self) -> ImageData:
        raise NotImplementedError

    def published_sizes(self) -> tuple[int, int, int] | None:
        """Train images, test images and classes as published, for estimates where the data is not here; None: not known."""
        return None

    def check(self) -> Iterator[str]:
        """All that is wrong with the data on disk, one line per finding; by default nothing that `load` would not say."""
        yield from ()


DATASETS: Registry[DataSource] = registries.DATASETS


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [0, 1]; float images pass unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images  # in place: half the memory traffic


def stage(images: Tensor, size: int) -> Tensor:
    """uint8 or [0, 1] images `(n, 3, h, w)` -> float32 `(n, 3, size, size)` in [0, 1].

    Shorter side to `size` with antialiased bilinear resampling, then centre crop; every view starts from here. The longer side
    is rounded, where torchvision's own resize truncates: a pixel at most, before the crop.
    """
    images = to_float(images)
    if images.shape[-2:] == (size, size):
        return images
    height, width = images.shape[-2:]
    scale = size / min(height, width)
    resized = F.resize(images, [max(size, round(height * scale)), max(size, round(width * scale))], antialias=True)
    return F.center_crop(resized, [size, size]).clamp(0, 1)


def array_fingerprint(*splits: Split) -> str:
    """sha256 over shapes, images and labels of in-memory splits."""
    digest = hashlib.sha256()
    for split in splits:
        for chunk in index_chunks(len(split), 4096):
            images = split.images[chunk]
            digest.update(str(tuple(images.shape)).encode())
            digest.update(images.contiguous().numpy().tobytes())
        for extra in (split.labels, split.groups):
            if extra is not None:
                digest.update(extra.numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def index_chunks(n: int, size: int) -> Iterator[Tensor]:
    """0..n-1 in consecutive chunks of at most `size`."""
    yield from torch.arange(n).split(size)


def stratified_indices(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0..n-1 into (rest, part) with about `fraction` of every class in `part`, each sorted; at least one of each
    class stays in `rest`."""
    generator = torch.Generator().manual_seed(seed)
    part = []
    for c in labels.unique():
        members = (labels == c).nonzero().flatten()
        count = min(round(len(members) * fraction), len(members) - 1)
        part.append(members[torch.randperm(len(members), generator=generator)[:count]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(part)] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
