"""Nearest neighbours: the label of the most similar images of the set, by cosine similarity of centre-crop features.

The 1-NN evaluation of LGM (arXiv 2511.16674, appendix A.3).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import Count
from ..core.ridge import class_rows
from ..core.run import Run
from ..core.sets import DistilledSet
from ._evaluation import judged
from ._features import class_targets, no_class_targets, set_features

_ROWS = 65536  # images of the set that are compared at a time


def most_similar(z: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarities `(n, k)`, descending, and indices of the k rows of own `(m, d)` nearest to each row of z `(n, d)`.

    Fewer than k where m is smaller. `own` may be a memory map larger than memory.
    """
    unit, best, places = F.normalize(z, dim=1), z.new_empty(len(z), 0), torch.empty(len(z), 0, dtype=torch.long)
    for start in range(0, len(own), _ROWS):
        similarity = unit @ F.normalize(own[start : start + _ROWS], dim=1).T
        near, where = similarity.topk(min(k, similarity.shape[1]), dim=1)
        best, places = torch.cat([best, near], dim=1), torch.cat([places, where + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        places = places.gather(1, order)
    return best, places


@PROTOCOLS.register("knn")
@dataclass(frozen=True)
class NearestNeighbours(Protocol):
    """k nearest images of the set by cosine similarity, votes weighted by 1 + similarity; k = 1 is LGM's 1-NN."""

    version: ClassVar[int] = 1

    k: Count = 1

    def supports(self, dset: DistilledSet) -> str | None:
        return no_class_targets(dset)

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        own = set_features(backbone, data, dset, run)[0]
        targets = class_targets(dset)
        hits = []
        test = run.bank.features(backbone, data, "test")[0]
        for z, y in zip(test.split(1024), data.test.labels.split(1024), strict=True):
            similarity, nearest = most_similar(z, own, self.k)
            weight = 1 + similarity[..., None]  # a cosine may be negative, a vote may not
            votes = (class_rows(targets, nearest, dset.num_classes) * weight).sum(1)
            hits.append(votes.argmax(1) == y)
        found = torch.cat(hits)
        return judged([100 * int(found.sum()) / len(found)], found[None], data, dset)
