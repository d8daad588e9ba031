"""Features of a set under evaluation, and what protocols read of its labels."""

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData, index_chunks, stage
from ..core.encode import encode
from ..core.finite import not_finite, refuse
from ..core.passes import PassSize
from ..core.run import Run
from ..core.sets import DistilledSet
from ..core.views import CENTRE, DRAWN, View, sample


def no_class_targets(dset: DistilledSet) -> str | None:
    """Why a classification probe cannot be trained on this set, or None."""
    if not len(dset):
        return "the set is empty; a classification probe needs images"
    if dset.labels is None and dset.target_kind != "class_probabilities":
        return f"the set has {dset.target_kind} and no class labels; a classification probe needs labels or class probabilities"
    return None


def class_targets(dset: DistilledSet) -> Tensor:
    """Targets of a classification probe: the set's class probabilities `(n, k)`, or its labels `(n,)`.

    `core.ridge.class_rows` gives those of some images as probabilities; one-hot for all of ImageNet they would take 5 GB.
    """
    if dset.target_kind == "class_probabilities":
        assert dset.targets is not None
        return dset.targets
    assert dset.labels is not None
    return dset.labels


def is_whole_train_split(dset: DistilledSet, data: ImageData) -> bool:
    """True for a set that refers to every train image in order; its features are the bank's."""
    if isinstance(dset.images, Tensor) or dset.indices is None or len(dset) != len(data.train):
        return False
    return bool((dset.indices == torch.arange(len(data.train))).all())


def set_features(
    backbone: Backbone,
    data: ImageData,
    dset: DistilledSet,
    run: Run,
    *,
    view: View = CENTRE,
    copies: int = 1,
    probe_seed: int | None = None,
) -> Tensor:
    """Features `(copies, n, d)` of random views of a set's images (one copy of the centre view by default).

    The views are those of one probe seed, or of all of them together (None).
    """
    if is_whole_train_split(dset, data):
        return run.bank.features(
            backbone, data, "train", view=view, copies=copies, seed=0 if probe_seed is None else probe_seed
        )
    generator, noise = _view_streams(run, probe_seed)
    spec, size = backbone.spec, PassSize(run.chunk_size)
    out = torch.empty(copies, len(dset), spec.dim)
    for indices in index_chunks(len(dset), DRAWN):  # the order of the random numbers, whatever the size of a pass
        images = stage(dset.batch(indices).to(run.device), spec.stage_size)
        at_once = max(1, DRAWN // len(indices))
        for copy in range(0, copies, at_once):
            k = min(at_once, copies - copy)
            params = sample(view, k * len(indices), generator, spec.stage_size, spec.input_size).to(run.device)
            features = encode(backbone, images, view, params, noise, size)
            out[copy : copy + k, indices] = features.view(k, len(indices), -1).cpu()
    bad = not_finite(out.transpose(0, 1).flatten(1)) if len(dset) else torch.empty(0)
    refuse(bad, len(dset), "images of the set", backbone)
    return out


def _view_streams(run: Run, probe_seed: int | None) -> tuple[torch.Generator, torch.Generator]:
    """Streams of the views and of their noise, the latter on the run's device."""
    if probe_seed is None:
        return run.generator("probe views"), torch.Generator(run.device).manual_seed(run.seed)
    return run.generator(f"views of probe seed {probe_seed}"), run.generator(f"noise of probe seed {probe_seed}", run.device)
