"""Herding: real images whose running mean follows the class mean.

Greedy selection of Welling (Herding Dynamical Weights to Learn, ICML 2009) as used for exemplars by iCaRL (Rebuffi et al.,
CVPR 2017, algorithm 4): image k minimises the distance of the class mean to the mean of the k images chosen so far.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.run import Run
from ..core.sets import DistilledSet
from ._real import pick_per_class


def herd(z: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of distinct rows of z `(n, d)`, in the order in which herding picks them."""
    mean, total, chosen = z.mean(0), torch.zeros_like(z[0]), []
    free = torch.ones(len(z), dtype=torch.bool)
    for k in range(1, count + 1):
        distance = ((total + z) / k - mean).square().sum(1).masked_fill(~free, float("inf"))
        best = int(distance.argmin())
        chosen.append(best)
        free[best] = False
        total = total + z[best]
    return torch.tensor(chosen)


@METHODS.register("herding")
@dataclass(frozen=True)
class Herding(Method):
    """Real images whose running mean follows the class mean in feature space (Welling 2009; iCaRL 2017)."""

    origin: ClassVar[Origin] = "baseline"

    normalise: bool = True  # L2-normalise features first, as iCaRL does

    real_images: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        def pick(z: Tensor, count: int) -> Tensor:
            return herd(torch.nn.functional.normalize(z, dim=1) if self.normalise else z, count)

        return pick_per_class(backbone, data, ipc, run, pick)
