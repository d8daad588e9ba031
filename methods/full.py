"""The full training data: the ceiling. The set refers to the data instead of copying it."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.run import Run
from ..core.sets import DistilledSet, real_set


@METHODS.register("full")
@dataclass(frozen=True)
class Full(Method):
    """All training images: the ceiling under each protocol; `ipc` does not apply."""

    origin: ClassVar[Origin] = "baseline"

    uses_backbone: ClassVar[bool] = False
    uses_ipc: ClassVar[bool] = False
    real_images: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone | None, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        run.progress(1, 1, None)
        return real_set(data, torch.arange(len(data.train)), copy=False)
