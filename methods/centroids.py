"""Real images nearest to their class mean in feature space.

The Centroids baseline of LGM (arXiv 2511.16674, section 4 and released code): Euclidean distance on raw features of the
centre crop, no normalisation.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.run import Run
from ..core.sets import DistilledSet
from ._real import pick_per_class


def nearest_to_mean(z: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of the rows of z `(n, d)` nearest to their mean, nearest first."""
    return (z - z.mean(0)).square().sum(1).argsort(stable=True)[:count]


@METHODS.register("centroids")
@dataclass(frozen=True)
class Centroids(Method):
    """Real images nearest to their class mean in feature space (LGM's Centroids baseline)."""

    origin: ClassVar[Origin] = "baseline"

    real_images: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        return pick_per_class(backbone, data, ipc, run, nearest_to_mean)
