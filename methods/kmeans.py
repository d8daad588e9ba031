"""Real images nearest to the k-means centres of their class, k = IPC, by scikit-learn."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.params import Count
from ..core.run import Run
from ..core.sets import DistilledSet
from ._real import pick_per_class


def nearest_to_centres(z: Tensor, centres: Tensor) -> Tensor:
    """For each centre `(k, d)`, the nearest row of z `(n, d)` that no earlier centre took; indices `(k,)`."""
    distance = torch.cdist(centres, z)
    chosen = []
    for row in distance:
        best = int(row.argmin())
        chosen.append(best)
        distance[:, best] = float("inf")
    return torch.tensor(chosen)


def nearest_to_clusters(z: Tensor, count: int, restarts: int) -> Tensor:
    """Indices `(count,)` of the rows of z `(n, d)`, n >= count, nearest to the centres of `count` k-means clusters of them."""
    from sklearn import cluster
    from sklearn.exceptions import ConvergenceWarning

    starts: Any = restarts  # the stubs know only the string "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: equal centres take equal rows
        model = cluster.KMeans(count, n_init=starts, random_state=0).fit(z.numpy())
    return nearest_to_centres(z, torch.from_numpy(model.cluster_centers_).to(z))


@METHODS.register("kmeans")
@dataclass(frozen=True)
class KMeans(Method):
    """Real images nearest to the k-means centres of their class in feature space, k = IPC."""

    origin: ClassVar[Origin] = "baseline"

    restarts: Count = 10  # k-means++ starts from a fixed seed; the best inertia is kept

    real_images: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        return pick_per_class(backbone, data, ipc, run, lambda z, count: nearest_to_clusters(z, count, self.restarts))
