"""Statistics of features that methods match: class centres, and the mean that all classes share."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.run import Run
from ..core.views import CENTRE, View


def class_centres(z: Float[Tensor, "n d"], labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "{num_classes} d"]:
    """Mean features `(k, d)` of each class over the rows of z `(n, d)` with labels `(n,)`; every class has a row."""
    sums = torch.zeros(num_classes, z.shape[1], dtype=z.dtype, device=z.device).index_add(0, labels, z)
    return sums / labels.bincount(minlength=num_classes)[:, None]


def real_centres(backbone: Backbone, data: ImageData, run: Run) -> Tensor:
    """Class centres `(k, d)` of the train split's centre views, computed once; on the run's device."""
    features = run.bank.features(backbone, data, "train")[0]
    return class_centres(features, data.train.labels, data.num_classes).to(run.device)


@dataclass(frozen=True)
class MeanTerm:
    """A price on the distance of the set's mean feature to the mean of the real classes (ours).

    Flows and, to first order, LGM's gradient are differences of class centres, which leave that mean free: a set can match
    them all and lie where no real image is. The unit is the mean squared distance of a real class centre to their mean, so
    that one weight serves features of any scale. Both sides are centre views, which every protocol tests on.
    """

    weight: float
    mean: Tensor  # (d,) of the real class centres
    unit: Tensor  # scalar

    @classmethod
    def of(cls, centres: Tensor, weight: float) -> "MeanTerm":
        """From real class centres `(k, d)`."""
        mean = centres.mean(0)
        return cls(weight, mean, (centres - mean).square().sum(1).mean())

    def __call__(self, z: Tensor) -> Tensor:
        """The price of centre-view features z `(n, d)` of a set with as many images of each class; a scalar."""
        return self.weight * (z.mean(0) - self.mean).square().sum() / self.unit


def views_with_mean(views: list[View], weight: float) -> list[View]:
    """The views of a step: the centre view first, where the mean has a price and it is not the only view already."""
    return views if not weight or not views[0].random else [CENTRE, *views]
