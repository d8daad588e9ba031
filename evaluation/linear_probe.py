"""Linear probes trained by gradient descent on augmented views: LGM's published protocol and an everyday one.

Both train a linear head by Adam with a cosine schedule on flip + random-resized-crop views and report the last epoch's
accuracy on centre crops of the test split (LGM, arXiv 2511.16674, appendix A.3 and released code). Nothing is selected on
the test split. Five probe seeds train at once; each draws its initial weights and its batch order from its own stream, and
its views too, unless they are shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData, stage
from ..core.encode import features_of
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import Count, Positive
from ..core.passes import PassSize
from ..core.real import resident
from ..core.run import Run
from ..core.sets import DistilledSet
from ..core.transfer import to_device
from ..core.views import Augment, AutoAugment, View, apply, augmentation, sample
from ._evaluation import judged
from ._features import class_targets, no_class_targets, set_features
from ._heads import FeaturesAt, ProbeRecipe, accuracies, head_hits, new_heads, train_heads

Heads = tuple[Tensor, Tensor]


def seed_streams(run: Run, seeds: int, purpose: str) -> list[torch.Generator]:
    """One stream per probe seed."""
    return [run.generator(f"{purpose} of probe seed {k}") for k in range(seeds)]


def trained_heads(
    backbone: Backbone, dset: DistilledSet, features_at: FeaturesAt, recipe: ProbeRecipe, seeds: int, run: Run
) -> Heads:
    """One head per probe seed, trained on the set's class targets; weights and batch orders start from its own streams."""
    weight, bias = new_heads(backbone.spec.dim, dset.num_classes, seed_streams(run, seeds, "head"))
    heads = (weight.to(run.device), bias.to(run.device))
    targets = class_targets(dset).to(run.device)
    return train_heads(heads, features_at, targets, recipe, seed_streams(run, seeds, "order"), run.progress)


def feature_scale(features: Tensor) -> float:
    """Root mean square of the entries of a set's features `(copies, n, d)`, over at most 100 million of them.

    Adam moves weights at the same pace whatever the features, so how far a head is trained depends on their scale; divided
    by it, one learning rate serves every backbone.
    """
    rows = max(1, 100_000_000 // features[:, 0].numel())
    return float(features[:, :rows].square().mean().sqrt())


def test_accuracy(heads: Heads, backbone: Backbone, data: ImageData, dset: DistilledSet, run: Run) -> Evaluation:
    """Top-1 per seed and mean top-5 on the test split; its features are computed once and shared by all protocols."""
    features = run.bank.features(backbone, data, "test")[0]
    hits, hits5 = head_hits(heads, features, data.test.labels, tops=(1, 5))
    top5 = accuracies(hits5)
    return judged(accuracies(hits), hits, data, dset, top5=sum(top5) / len(top5))


@PROTOCOLS.register("linear-probe")
@dataclass(frozen=True)
class LinearProbe(Protocol):
    """Linear head on flip + crop views from a pool that all probe seeds share, own learning rate; the everyday protocol."""

    version: ClassVar[int] = 1

    lr: Positive = 0.01  # chosen on validation splits, see docs/protocols.md; not scaled by the set's size
    epochs: Count = 300
    full_epochs: Count = 100  # for the full data, as in LGM's released code
    batch: Count = 100  # full batch for smaller sets
    seeds: Count = 5
    augment: AutoAugment = "auto"  # none, or flip, crop, noise joined by +; auto: flip+crop as the data bears it
    view_budget: Count = 6_000  # views computed in all; small sets see a new view every epoch
    min_views: Count = 4  # views per image for sets that are larger than the budget
    shared_views: bool = True  # one pool of views for all probe seeds; false: one for each, at as many times the cost

    def supports(self, dset: DistilledSet) -> str | None:
        return no_class_targets(dset)

    def views_per_image(self, n: int, epochs: int) -> int:
        """Distinct views of each of n images; epoch e sees view e modulo this number."""
        return min(epochs, max(self.min_views, self.view_budget // n))

    def view_on(self, data: ImageData) -> View:
        return View.parse(augmentation(self.augment, data.mirror))

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        return test_accuracy(self.heads(backbone, data, dset, run), backbone, data, dset, run)

    def heads(self, backbone: Backbone, data: ImageData, dset: DistilledSet, run: Run) -> Heads:
        """One trained head per probe seed, for features as they are."""
        copies, view = self.views_per_image(len(dset), self.epochs_on(dset)), self.view_on(data)
        seeds = [None] if self.shared_views else range(self.seeds)
        views = [set_features(backbone, data, dset, run, view=view, copies=copies, probe_seed=seed) for seed in seeds]
        return self.heads_on(views, backbone, dset, run)

    def epochs_on(self, dset: DistilledSet) -> int:
        return self.epochs if isinstance(dset.images, Tensor) else self.full_epochs

    def heads_on(self, views: Sequence[Tensor], backbone: Backbone, dset: DistilledSet, run: Run) -> Heads:
        """The same on features `(copies, n, d)` of the set's views, one pool for all probe seeds or one for each."""
        pools = _ViewPool.each(views, run.device)

        def features_at(epoch: int, indices: Tensor) -> Tensor:
            return torch.cat([pool.at(epoch, own) for pool, own in zip(pools, indices.chunk(len(pools)), strict=True)])

        recipe = ProbeRecipe(self.lr, self.epochs_on(dset), min(self.batch, len(dset)))
        weight, bias = trained_heads(backbone, dset, features_at, recipe, self.seeds, run)
        unscaled = [own / pool.scale for pool, own in zip(pools, weight.chunk(len(pools)), strict=True)]
        return torch.cat(unscaled), bias


@dataclass(frozen=True)
class _ViewPool:
    """Features `(copies, n, d)` of a set's views, kept on the device where all pools are small beside its memory."""

    features: Tensor
    scale: float  # that heads see them divided by
    device: torch.device

    @classmethod
    def each(cls, views: Sequence[Tensor], device: torch.device) -> "list[_ViewPool]":
        scales = [feature_scale(features) for features in views]
        return [cls(kept, scale, device) for kept, scale in zip(resident(views, device), scales, strict=True)]

    def at(self, epoch: int, indices: Tensor) -> Tensor:
        """Scaled features `(..., d)` of the images at `indices`, under the views of an epoch."""
        found = self.features[epoch % len(self.features)][to_device(indices, self.features.device)]
        return to_device(found, self.device) / self.scale


@PROTOCOLS.register("lgm-probe")
@dataclass(frozen=True)
class LGMProbe(Protocol):
    """The probe of LGM's released code: lr 0.001 * batch / 256, 1000 epochs, own views for every probe seed."""

    version: ClassVar[int] = 1

    base_lr: Positive = 0.001  # per 256 images of a batch; the rule leaves the head of a ten-image set near its initialisation
    epochs: Count = 1000
    batch: Count = 100  # min(100, n)
    full_epochs: Count = 100  # the released full-data evaluation
    full_batch: Count = 128
    seeds: Count = 5
    augment: Augment = "flip+crop"  # the paper's A.3 says flip+crop+noise; the released probe has no noise

    def supports(self, dset: DistilledSet) -> str | None:
        return no_class_targets(dset)

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        small = isinstance(dset.images, Tensor)
        batch = min(self.batch if small else self.full_batch, len(dset))
        recipe = ProbeRecipe(self.base_lr * batch / 256, self.epochs if small else self.full_epochs, batch)
        noise = [run.generator(f"noise of probe seed {k}", run.device) for k in range(self.seeds)]
        held = resident([dset.images], run.device)[0] if isinstance(dset.images, Tensor) else None
        live = _LiveViews(backbone, dset, held, View.parse(self.augment), seed_streams(run, self.seeds, "views"), noise, run)
        heads = trained_heads(backbone, dset, live, recipe, self.seeds, run)
        return test_accuracy(heads, backbone, data, dset, run)


@dataclass
class _LiveViews:
    """Features of fresh views at every step, each probe seed from its own stream."""

    backbone: Backbone
    dset: DistilledSet
    held: Tensor | None  # the set's images where they are a tensor, on the device if they fit there
    view: View
    streams: list[torch.Generator]
    noise: list[torch.Generator]
    run: Run

    def __post_init__(self) -> None:
        self.size = PassSize(self.run.chunk_size)

    def pick(self, indices: Tensor) -> Tensor:
        """Images `(k, 3, h, w)` in [0, 1] on the device."""
        if self.held is None:
            return self.dset.batch(indices).to(self.run.device)
        return to_device(self.held[to_device(indices, self.held.device)], self.run.device)

    def __call__(self, epoch: int, indices: Tensor) -> Tensor:
        spec = self.backbone.spec
        seeds, batch = indices.shape
        params = [sample(self.view, batch, g, spec.stage_size, spec.input_size) for g in self.streams]
        views = []
        for k in range(seeds):
            images = stage(self.pick(indices[k]), spec.stage_size)
            views.append(apply(self.view, images, params[k], spec.input_size, self.noise[k]))
        return features_of(self.backbone, torch.cat(views), self.size).view(seeds, batch, -1)
