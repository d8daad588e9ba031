"""Neighbours: the real image nearest to each image of a distilled set.

The Neighbors baseline of LGM (arXiv 2511.16674, section 4 and released code): the training image of the same class with the
largest cosine similarity to the distilled image, on features of centre crops. Two images of a class may share a neighbour. It
shows how much of a distilled set's worth is in what its images show, and how much in what no real image has.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData, index_chunks, stage
from ..core.encode import features_of
from ..core.errors import Unsupported
from ..core.finite import not_finite, refuse
from ..core.method import METHODS, Method, Origin
from ..core.params import AfterValidator, spec_string
from ..core.passes import PassSize
from ..core.registry import SpecOf
from ..core.run import Run
from ..core.sets import DistilledSet, existing_set, real_set
from ..core.views import centre


def nearest_of_class(z: Tensor, labels: Tensor, z_real: Tensor, y_real: Tensor) -> Tensor:
    """For each row of z `(n, d)`, the index of the row of z_real `(m, d)` of its class with the largest cosine similarity."""
    found = torch.empty(len(z), dtype=torch.long)
    for c in labels.unique():  # of all classes at once there may be more similarities than memory
        own, real = ((y == c).nonzero().flatten() for y in (labels, y_real))
        found[own] = real[(F.normalize(z[own], dim=1) @ F.normalize(z_real[real], dim=1).T).argmax(1)]
    return found


def _set_folder(folder: str) -> str:
    existing_set(folder)
    return folder


@METHODS.register("neighbors")
@dataclass(frozen=True)
class Neighbors(Method):
    """The real image nearest to each image of a distilled set (LGM's Neighbors baseline)."""

    origin: ClassVar[Origin] = "baseline"

    of: Annotated[str, SpecOf(METHODS)] = "lgm"  # the method, with its parameters, that distils the set first
    folder: Annotated[str, AfterValidator(_set_folder)] | None = None  # a set that exists already, in the place of `of`

    @property
    def given_sets(self) -> tuple[str, ...]:
        return () if self.folder is None else (self.folder,)

    def shortened(self, steps: int) -> Self:
        return replace(self, of=spec_string(METHODS.create(self.of).shortened(steps)))

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        given = self.given_set(backbone, data, ipc, run)
        if given.labels is None or given.class_names != data.class_names:
            raise Unsupported(f"neighbours are sought within a class, and the set has no labels of the classes of {data.name}")
        z = centre_features(given, backbone, run)
        z_real = run.bank.features(backbone, data, "train")[0]
        return real_set(data, nearest_of_class(z, given.labels, z_real, data.train.labels))

    def given_set(self, backbone: Backbone, data: ImageData, ipc: int, run: Run) -> DistilledSet:
        """The set of `folder`, or that of `of` with the same seed: the one that is there, or one that is distilled now."""
        if self.folder is not None:
            return DistilledSet.load(self.folder, data)
        method = METHODS.create(self.of)
        if (reason := method.supports(backbone.spec, data, ipc)) is not None:
            raise Unsupported(reason)
        stored = run.stored_set(method)
        return method.distill(backbone, data, ipc, run=run) if stored is None else stored


def centre_features(dset: DistilledSet, backbone: Backbone, run: Run) -> Tensor:
    """Centre-view features `(n, d)` of a set, on the CPU. Raises `UserError` where one is not finite."""
    spec, size, found = backbone.spec, PassSize(run.chunk_size), []
    for indices in index_chunks(len(dset), run.chunk_size):
        staged = stage(dset.batch(indices).to(run.device), spec.stage_size)
        found.append(features_of(backbone, centre(staged, spec.input_size), size).cpu())
    z = torch.cat(found)
    refuse(not_finite(z), len(z), "images of the set", backbone)
    return z
