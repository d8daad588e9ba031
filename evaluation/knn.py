"""Nearest neighbours: the label of the most similar images of the set, by cosine similarity of centre-crop features.

The 1-NN evaluation of LGM (arXiv 2511.16674, appendix A.3).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import PROTOCOLS, Evaluation, Protocol, Work
from ..core.params import Count
from ..core.run import Run
from ..core.sets import DistilledSet
from ._features import class_targets, no_class_targets, set_features
from ._groups import judged


@PROTOCOLS.register("knn")
@dataclass(frozen=True)
class NearestNeighbours(Protocol):
    """k nearest images of the set by cosine similarity, votes weighted by 1 + similarity; k = 1 is LGM's 1-NN."""

    version: ClassVar[int] = 1

    k: Count = 1

    def supports(self, dset: DistilledSet) -> str | None:
        return no_class_targets(dset)

    def work(self, images: int, whole: bool) -> Work:
        return Work(forward=0 if whole else images, banked=("train", "test") if whole else ("test",))

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        own = F.normalize(set_features(backbone, data, dset, run)[0], dim=1)
        targets = class_targets(dset)
        hits = []
        test = run.bank.features(backbone, data, "test")[0]
        for z, y in zip(test.split(1024), data.test.labels.split(1024), strict=True):
            similarity, nearest = (F.normalize(z, dim=1) @ own.T).topk(min(self.k, len(own)), dim=1)
            votes = (targets[nearest] * (1 + similarity[..., None])).sum(1)  # a cosine may be negative, a vote may not
            hits.append(votes.argmax(1) == y)
        found = torch.cat(hits)
        return judged([100 * int(found.sum()) / len(found)], found[None], data)
