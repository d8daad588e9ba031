"""The empty set: the floor of self-supervised pre-training, where a student stays as it was initialised."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.run import Run
from ..core.sets import DistilledSet

_SIDE = 32  # pixels of images that are not there


@METHODS.register("untrained")
@dataclass(frozen=True)
class Untrained(Method):
    """No images at all: under `ssl-pretrain`, a student with random weights."""

    origin: ClassVar[Origin] = "baseline"

    uses_backbone: ClassVar[bool] = False
    uses_ipc: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone | None, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        run.progress(1, 1, None)
        return DistilledSet(torch.zeros(0, 3, _SIDE, _SIDE), torch.zeros(0, dtype=torch.int64), data.class_names)
