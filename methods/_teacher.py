"""What the self-supervised methods and their controls share: a frozen backbone as the teacher, and sets of real images with
its features as targets.

The student sees each image at `size` pixels. The teacher sees real images at its own resolution, and of what the student sees,
where that is augmented, a resized copy.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.bank import feature_facts
from ..core.data import ImageData, Split, stage
from ..core.run import Run
from ..core.sets import DistilledSet
from ..core.views import CENTRE, centre

LABELS_OF = "initial images"  # labels that come along with the real images that a set starts from; nothing here reads them

# A dimension whose standard deviation is below this share of the root mean square over all dimensions is left as it is.
_DEAD = 1e-4


@dataclass(frozen=True)
class Teacher:
    """Features of the train split under the teacher, and the affine map that standardises them per dimension."""

    backbone: Backbone
    features: Tensor  # (n, d) of the train split, memory-mapped
    mean: Tensor  # (d,)
    std: Tensor  # (d,)
    facts: dict[str, Any]  # what determines all targets, JSON-ready

    @classmethod
    def of(cls, backbone: Backbone, data: ImageData, standardise: bool, run: Run) -> "Teacher":
        features = run.bank.features(backbone, data, "train")[0]
        mean, std = standardisation(features)
        if not standardise:
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        facts = {**feature_facts(backbone, data, "train", CENTRE, 1, 0), "standardise": standardise}
        return cls(backbone, features, mean, std, facts)

    @property
    def dim(self) -> int:
        return self.features.shape[1]

    def targets(self, indices: Tensor) -> Tensor:
        """Targets `(k, d)` of the train images at `indices`."""
        return (self.features[indices] - self.mean) / self.std

    @torch.no_grad()
    def see(self, images: Tensor) -> Tensor:
        """Targets `(k, d)` of any images `(k, 3, s, s)` in [0, 1], on their device; the teacher sees a resized copy."""
        spec = self.backbone.spec
        features = self.backbone(centre(stage(images, spec.stage_size), spec.input_size)).float()
        return (features - self.mean.to(features)) / self.std.to(features)


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation `(d,)` of features `(n, d)`; constant dimensions have deviation 1."""
    var, mean = torch.var_mean(features, dim=0, correction=0)
    std = var.sqrt()
    return mean, torch.where(std > _DEAD * var.mean().sqrt(), std, torch.ones_like(std))


def see_real(split: Split, indices: Tensor, size: int) -> Tensor:
    """The images at `indices` as the student sees them, float32 `(k, 3, size, size)` in [0, 1]."""
    return stage(split.images[indices], size)


def random_images(data: ImageData, count: int, run: Run) -> Tensor:
    """Indices `(count,)` of distinct train images, whatever their class; all methods start from the same ones at a seed."""
    return torch.randperm(len(data.train), generator=run.generator("initial images"))[:count]


def taught(teacher: Teacher, data: ImageData, chosen: Tensor, size: int) -> DistilledSet:
    """The train images at `chosen` with the teacher's targets: what distillation starts from, and its control."""
    return DistilledSet(
        images=see_real(data.train, chosen, size),
        labels=data.train.labels[chosen],
        class_names=data.class_names,
        targets=teacher.targets(chosen),
        target_kind="teacher_features",
        indices=chosen,
        target_mean=teacher.mean,
        target_std=teacher.std,
        labels_of=LABELS_OF,
    )


def too_few(name: str, data: ImageData, count: int) -> str | None:
    """Why a budget of `count` images cannot be met, or None."""
    if count > len(data.train):
        return f"{name} starts from {count} real images, but {data.name} has {len(data.train)}"
    return None
