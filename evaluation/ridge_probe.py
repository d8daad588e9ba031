"""Ridge probe: a closed-form linear classifier on centre-crop features, its ridge chosen on validation images.

Fits the one-hot (or soft) targets with an intercept. The ridge, relative to the mean diagonal of the centred kernel, is
chosen by accuracy on a stratified part of the train split that the set does not contain; for the full data the part is
held out of the fit, which is then repeated on all images. The test split plays no role in the choice. One
eigendecomposition serves the whole grid of ridges, in the sample or the feature space by shape.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData, stratified_indices
from ..core.errors import Unsupported
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import Count
from ..core.ridge import RidgePath
from ..core.run import Run
from ..core.sets import DistilledSet
from ._evaluation import judged
from ._features import class_targets, no_class_targets, set_features

GRID = tuple(10.0**k for k in range(-6, 3))  # relative ridges
_VALIDATION_SEED = 0  # the split is part of the protocol, the same for every run


def validation_indices(data: ImageData, dset: DistilledSet, fraction: float) -> tuple[Tensor, bool]:
    """Train images to choose hyper-parameters on, and whether they must be held out of the set itself.

    A stratified part of the train split without the images that the set contains; where the set is most of the split, the
    part is taken out of the set instead.
    """
    _, part = stratified_indices(data.train.labels, fraction, _VALIDATION_SEED)
    if not len(part):
        return _one_of_some_classes(data.train.labels, dset, fraction)
    if dset.indices is None:
        return part, False
    outside = part[~torch.isin(part, dset.indices)]
    return (outside, False) if len(outside) >= len(part) / 2 else (part, True)


def _one_of_some_classes(labels: Tensor, dset: DistilledSet, fraction: float) -> tuple[Tensor, bool]:
    """As `validation_indices` where each class is so small that its share rounds to no image: one image of some classes.

    They are images outside the set; where there are none, one each of classes that keep another.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_VALIDATION_SEED))
    outside = order if dset.indices is None else order[~torch.isin(order, dset.indices)]
    whole = not len(outside)
    pool = order[labels.bincount()[labels[order]] > 1] if whole else outside
    one_each = list({int(labels[index]): int(index) for index in pool}.values())
    return torch.tensor(sorted(one_each[: max(1, round(fraction * len(labels)))]), dtype=torch.long), whole


@PROTOCOLS.register("ridge-probe")
@dataclass(frozen=True)
class RidgeProbe(Protocol):
    """Closed-form ridge classifier on centre-crop features, ridge chosen on validation images of the train split."""

    version: ClassVar[int] = 1

    max_validation: Count = 5000  # validation images at most

    def supports(self, dset: DistilledSet) -> str | None:
        return no_class_targets(dset)

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        features = set_features(backbone, data, dset, run)[0]
        targets = class_targets(dset)
        ridge = self.choose_ridge(backbone, data, dset, features, targets, run)
        path = RidgePath.fit(features, targets, dset.num_classes)
        hits = path.hits(run.bank.features(backbone, data, "test")[0], data.test.labels, ridge)
        return judged([100 * int(hits.sum()) / len(hits)], hits[None], data, dset, ridge=ridge)

    def choose_ridge(
        self, backbone: Backbone, data: ImageData, dset: DistilledSet, features: Tensor, targets: Tensor, run: Run
    ) -> float:
        """The relative ridge of the grid with the best validation accuracy; the largest of equals.

        Raises `Unsupported` where the train split is too small to give any image to validation.
        """
        fraction = min(0.2, self.max_validation / len(data.train))
        part, held_out = validation_indices(data, dset, fraction)
        if not len(part):
            raise Unsupported(f"ridge-probe chooses its ridge on train images outside the set; {data.name} has too few of them")
        rows = None
        if held_out:
            assert dset.indices is not None
            rows = (~torch.isin(dset.indices, part)).nonzero().flatten()
        path = RidgePath.fit(features, targets, dset.num_classes, rows)
        z, y = run.bank.features(backbone, data, "train")[0][part], data.train.labels[part]
        return max(GRID, key=lambda ridge: (path.accuracy(z, y, ridge), ridge))
