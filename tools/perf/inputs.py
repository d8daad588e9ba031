"""Random data and random banked features for performance measurements, where cost does not depend on values."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.bank import FeatureBank
from ddbench.core.data import ImageData, Split
from ddbench.core.views import CENTRE, View

from .cases import Case

_TRAIN, _TEST = 10_000, 2_000  # real images; batches of a step are drawn from them
_POOL = 256  # different random images; the others repeat them


def load(case: Case, device: torch.device) -> Backbone:
    """The case's backbone on the device."""
    return BACKBONES.create(case.backbone).load().to(device)


@dataclass
class RandomBank(FeatureBank):
    """A bank of random features that computes and stores nothing."""

    def features(
        self, backbone: Backbone, data: ImageData, split: str, *, view: View = CENTRE, copies: int = 1, seed: int = 0
    ) -> Tensor:
        shape = (copies, len(getattr(data, split)), backbone.spec.dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class RepeatedImages:
    """`count` random images of `size` pixels, a small pool over and over."""

    count: int
    pool: np.ndarray

    @classmethod
    def random(cls, count: int, size: int) -> "RepeatedImages":
        return cls(count, np.random.default_rng(0).integers(0, 256, (_POOL, 3, size, size), dtype=np.uint8))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.pool[indices.numpy() % len(self.pool)])


def random_data(classes: int, size: int, train: int = _TRAIN) -> ImageData:
    """Random images of `size` pixels, labels of all classes in turn."""

    def split(count: int) -> Split:
        return Split(RepeatedImages.random(count, size), torch.arange(count) % classes)

    names = tuple(f"class {index}" for index in range(classes))
    return ImageData("random", split(max(train, classes)), split(_TEST), names, f"random {classes} {size} {train}")
