"""Random real images: the floor that every distilled set must beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.run import Run
from ..core.sets import DistilledSet, real_set


@METHODS.register("random")
@dataclass(frozen=True)
class RandomReal(Method):
    """Random training images, the same number for every class, without replacement."""

    origin: ClassVar[Origin] = "baseline"

    uses_backbone: ClassVar[bool] = False
    real_images: ClassVar[bool] = True

    def distill(self, backbone: Backbone | None, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        generator = run.generator("random real images")
        chosen = []
        for c in range(data.num_classes):
            members = (data.train.labels == c).nonzero().flatten()
            chosen.append(members[torch.randperm(len(members), generator=generator)[:ipc]])
            run.progress(c + 1, data.num_classes, None)
        return real_set(data, torch.cat(chosen))
