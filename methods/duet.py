"""Duet: a method of ours for one image set that holds under every linear protocol, and on backbones it never saw.

A set distilled through one closed-form probe shines under that probe, loses under others, and means little to any other
backbone. Duet minimises three things over the same images X, which start from real images X_0, one for each k-means cluster
of a class (IPC 1: the one nearest to its mean):

    L = sum over backbones [ (L_copies + plain * L_centre) / (1 + plain)  +  anchor * mean (X - X_0)^2 ]

- `L_copies`, `L_centre`: the outer losses (`clpdd.py`) of two ridge probes, one on augmented copies and one on centre views,
  each with its own ridge. They cover probes trained on augmented views and probes solved on plain ones.
- the anchor keeps the images near real ones. Most of what a probe's gradient changes in an image only its own backbone sees;
  a price on every change leaves those that pay.
- `also` adds the same two losses under further backbones. A transfer column of such a set counts only for the backbones
  that are not named.

Measured (docs/findings.md: second zoo, IPC 1, 350 steps, one CPU core): 23 to 28 s and 39 to 53 MiB a set; linear-probe 79.2 %
on the digits and 47.3 % on CIFAR-10, on other backbones 67.8 and 37.7 %.

The suite that takes each part away, and what does not work: docs/duet.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from ..core.backbone import BACKBONES, Backbone, BackboneSpec
from ..core.data import ImageData
from ..core.engine import FeatureEngine, Objective
from ..core.errors import UserError
from ..core.method import METHODS, Method, Origin
from ..core.optimise import Regulariser, Schedule, optimise, render_all
from ..core.params import Count, NonNegative, Positive, split
from ..core.real import resident
from ..core.registry import SpecOf
from ..core.run import Run
from ..core.sets import DistilledSet, class_labels
from ..core.transfer import to_device
from ..core.views import AutoAugment, augmentation
from ._synthetic import Init, starting_images
from .clpdd import Probes


@dataclass(frozen=True)
class Ensemble:
    """Feature engines of several backbones on the same images; a step takes one objective for each and adds them up."""

    engines: Sequence[FeatureEngine]

    @property
    def chunk(self) -> int:
        return min(self.in_use)

    @property
    def chunks(self) -> list[int]:
        return [size for engine in self.engines for size in engine.chunks]

    @property
    def in_use(self) -> list[int]:
        return [engine.chunk for engine in self.engines]

    def fit(self, images: nn.Module) -> None:
        for engine in self.engines:
            engine.fit(images)

    def use(self, chunks: Sequence[int]) -> None:
        for engine, chunk in zip(self.engines, chunks, strict=True):
            engine.use([chunk])

    def step(self, images: nn.Module, objective: Sequence[Objective], generator: torch.Generator) -> Tensor:
        """Add the gradients of `objective`, one part per engine, to the parameters' `.grad`; returns their sum."""
        parts = zip(self.engines, objective, strict=True)
        return torch.stack([engine.step(images, part, generator) for engine, part in parts]).sum()


def anchor_to(origin: Tensor, weight: float) -> Regulariser:
    """`weight` times the mean squared distance of the images to `origin (n, 3, R, R)`, wherever that lies."""

    def pull(images: Tensor, rows: slice) -> Tensor:
        return (images - to_device(origin[rows], images.device)).square().sum() * (weight / origin.numel())

    return pull


@METHODS.register("duet")
@dataclass(frozen=True)
class Duet(Method):
    """Two ridge probes on one image set, anchored to real images, over one backbone or several (ours)."""

    origin: ClassVar[Origin] = "ours"

    tau: Positive = 0.2  # softmax temperature of the outer cross-entropy
    lam: Positive = 0.003  # ridge of the probe on centre views, relative to the mean diagonal of the kernel
    lam_copies: Positive = 0.1  # the same for the probe on augmented copies
    plain: NonNegative = 2.0  # weight of the centre-view probe beside the other one; 0: augmented copies only
    anchor: NonNegative = 200.0  # weight of the mean squared pixel distance to the images it starts from, per backbone
    also: Annotated[str, SpecOf(BACKBONES, several=True)] = ""  # others, joined by +, or leave-one-out
    init: Init = "centroid"  # start from real images, those that `kmeans` picks (IPC 1: `centroids`); or noise, with anchor=0
    augment: AutoAugment = "auto"  # of the copies: none, or flip, crop, noise joined by +; auto: flip+crop as the data bears it
    copies: Count = 3  # augmented copies of each image per step; none with augment=none
    steps: Count = 300
    lr: Positive = 0.05  # Adam, on the pyramid of the images (LGM section 3.2); 0.01 for 10 images per class
    real_batch: Count = 2000  # real features per step

    def __post_init__(self) -> None:
        if self.anchor and self.init == "noise":
            raise UserError("init=noise starts from no real image to anchor to: give anchor=0, or init=centroid")
        if len(set(named := split(self.also, "+"))) < len(named):
            raise UserError(f"also={self.also} names a backbone twice; name each once")

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        others = (BACKBONES.create(name).load().spec for name in split(self.also, "+"))
        if backbone is not None and any(other == backbone for other in others):
            return f"also={self.also} names the backbone that distils; name others, or leave-one-out"
        return super().supports(backbone, data, ipc)

    def probes_on(self, data: ImageData) -> Probes:
        return Probes(self.tau, self.lam, self.lam_copies, self.plain, augmentation(self.augment, data.mirror), self.copies)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        images = starting_images(backbone, data, ipc, run, init=self.init)
        backbones = [backbone, *(run.backbone_of(name).to(run.device) for name in split(self.also, "+"))]
        probes = self.probes_on(data)
        engines = [FeatureEngine(each, probes.views(), run.chunk_size) for each in backbones]
        draws = [probes.objectives(each, data, ipc, self.real_batch, run) for each in backbones]
        generator = run.generator("real batches")
        anchor = self.anchor_on(images, len(backbones), run)
        schedule = Schedule(self.steps, self.lr)
        found = optimise(images, Ensemble(engines), lambda step: [draw(generator) for draw in draws], schedule, run, anchor)
        return DistilledSet(found, class_labels(data.num_classes, ipc), data.class_names)

    def anchor_on(self, images: nn.Module, backbones: int, run: Run) -> Regulariser | None:
        """The price on every change of the images from what they are now, once for each backbone."""
        if not self.anchor:
            return None
        (origin,) = resident([render_all(images, run.chunk_size)], run.device)
        return anchor_to(origin, backbones * self.anchor)
