"""CLP-DD: closed-form linear-probe dataset distillation (Peng et al., arXiv 2605.07194).

A re-derivation from the abstract: the authors' code is not released and their tables could not be read. The two equations
below are the abstract's; lambda, tau, normalisation, bias, augmentation, initialisation and schedule are ours, chosen on
validation splits (docs/clpdd.md). No number of the paper is reproduced here.

Inner problem: the ridge probe of the synthetic features, in closed form (sample space where that is smaller),

    W = Z_s^T (Z_s Z_s^T + lambda I)^-1 Y_s

Outer problem: this probe on real features Z_r, scored by temperature-scaled softmax cross-entropy

    L = CE(Z_r W / tau, y_r)

or, as the ablation that the abstract names, by the squared error to the one-hot targets. The columns of W act as class
anchors in feature space. Real features come from the bank, so a step costs one pass over the synthetic views only.

With augmentation two probes share the images: one on all random copies together, with a stronger ridge, and one on the centre
views, with a weaker one; their losses are added. The first is what a probe trained on augmented views meets, the second what
a closed-form probe meets; either alone makes a set that fails under the other protocol.

Claimed: about 14 times as fast as LGM with augmentation and under an eighth of its GPU memory on ImageNet-1k (abstract).
Measured (docs/findings.md: mini zoo, IPC 1, 350 steps, one CPU core): 27 to 28 s and 44 to 51 MiB a set, LGM 102 to 113 s and
135 to 158 MiB; ridge-probe 84.3 % on the digits and 39.1 % on CIFAR-10, random real images 58.6 and 19.9 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.engine import FeatureEngine, Objective
from ..core.method import METHODS, Method, Work
from ..core.optimise import Schedule, optimise
from ..core.params import Count, Natural, NonNegative, Positive
from ..core.real import RealBatches
from ..core.ridge import add_bias, mean_diagonal, one_hot, solve_ridge
from ..core.run import Run
from ..core.sets import DistilledSet, class_labels
from ..core.views import CENTRE, Augment, View
from ._synthetic import Init, Parametrisation, refuse_growth_from_images, starting_images, version_of_start


def probe_features(z: Tensor, normalise: bool, bias: bool, bias_scale: Tensor) -> Tensor:
    """Features `(n, d)` as the probe sees them: L2-normalised and with a constant feature, as asked.

    The constant is `bias_scale`, the root mean square norm of the real features, so it weighs the same for every backbone.
    """
    if normalise:
        z = F.normalize(z, dim=-1)
    return add_bias(z, bias_scale) if bias else z


def outer_loss(logits: Tensor, labels: Tensor, tau: float, outer: Literal["ce", "mse"]) -> Tensor:
    """Loss of the probe's outputs `(n, k)` on real features against labels `(n,)`; a scalar.

    `ce`: cross-entropy of softmax(logits / tau). `mse`: mean over images of the squared distance to the one-hot target.
    """
    if outer == "ce":
        return F.cross_entropy(logits / tau, labels)
    return (logits - one_hot(labels, logits.shape[1], logits.dtype)).square().sum(1).mean()


@METHODS.register("clpdd")
@dataclass(frozen=True)
class CLPDD(Method):
    """Closed-form linear-probe distillation (CLP-DD): a ridge probe of the synthetic set, scored on real features."""

    outer: Literal["ce", "mse"] = "ce"  # outer loss; mse is the abstract's ablation
    tau: Positive = 0.25  # softmax temperature of the outer cross-entropy
    lam: Positive = 0.003  # ridge of the probe on centre views, relative to the mean diagonal of the kernel
    lam_copies: Positive = 0.1  # the same for the probe on augmented copies
    plain: NonNegative = 4.0  # weight of the centre-view probe beside the other one; 0: augmented copies only
    bias: bool = True  # constant feature beside the backbone's
    normalise: bool = False  # L2-normalise features
    images: Parametrisation = "pyramid"  # parametrisation (LGM section 3.2)
    init: Init = "centroid"  # start from real images, those that `kmeans` picks (IPC 1: `centroids`); or noise
    augment: Augment = "flip+crop"  # views of the copies: none, or flip, crop, noise joined by +
    copies: Count = 2  # augmented copies of each image per step; none with augment=none
    real_views: Natural = 0  # augmented views per real image, beside its centre view, that the probes are scored on
    steps: Count = 350
    lr: Positive = 0.05  # Adam, on the image parameters
    grow_every: Natural = 0  # steps between pyramid levels, with init=noise; 0: all levels from the start
    real_batch: Count = 2000  # real features per step
    balanced: bool = True  # draw every class with the same probability in the real batch
    solve: Literal["float32", "float64"] = "float64"  # precision of the ridge solve
    decorrelate: bool = True  # colour decorrelation (LGM section 3.2)

    def __post_init__(self) -> None:
        refuse_growth_from_images(self.init, self.grow_every)

    def version_at(self, ipc: int) -> int:
        return version_of_start(self.version, self.init, ipc)

    def work(self, train: int, classes: int, ipc: int) -> Work:
        views = self.steps * classes * ipc * len(self.views())
        return Work(views + train * self.real_views, views, ("train",), classes * ipc)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        images = starting_images(self, backbone, data, ipc, run)
        engine = FeatureEngine(backbone, self.views(), run.chunk_size)
        score = self.scored(backbone, data, ipc, run)
        generator = run.generator("real batches")
        found = optimise(images, engine, lambda step: score(generator), Schedule(self.steps, self.lr, self.grow_every), run)
        return DistilledSet(found, class_labels(data.num_classes, ipc), data.class_names)

    def scored(self, backbone: Backbone, data: ImageData, ipc: int, run: Run) -> Callable[[torch.Generator], Objective]:
        """The objective on a batch of real features that the generator draws."""
        bank = self.real_features(backbone, data, run)
        real = RealBatches.of(bank, data.train.labels, self.real_batch, self.balanced, run.device)
        targets = one_hot(class_labels(data.num_classes, ipc), data.num_classes).to(run.device)

        def draw(generator: torch.Generator) -> Objective:
            z_real, y_real = real.draw(generator)
            return lambda z: self.objective(z, targets, z_real, y_real)

        return draw

    def objective(self, z: Tensor, targets: Tensor, z_real: Tensor, y_real: Tensor) -> Tensor:
        """Weighted mean of the outer losses of the probes of synthetic features z `(v, n, d)`, targets `(n, k)`; a scalar."""
        if not View.parse(self.augment).random:
            return self.probe_loss(z, targets, z_real, y_real, self.lam)
        copies = self.probe_loss(z[-self.copies :], targets, z_real, y_real, self.lam_copies)
        if not self.plain:
            return copies
        centre = self.probe_loss(z[:1], targets, z_real, y_real, self.lam)
        return (copies + self.plain * centre) / (1 + self.plain)

    def probe_loss(self, z: Tensor, targets: Tensor, z_real: Tensor, y_real: Tensor, lam: float) -> Tensor:
        """Outer loss of the one probe that all views z `(v, n, d)` induce together; a scalar."""
        scale = mean_diagonal(F.normalize(z_real, dim=1) if self.normalise else z_real).sqrt()
        own = probe_features(z.flatten(0, 1), self.normalise, self.bias, scale)
        probe = solve_ridge(own, targets.repeat(len(z), 1), lam, dtype=getattr(torch, self.solve))
        logits = probe_features(z_real, self.normalise, self.bias, scale) @ probe
        return outer_loss(logits, y_real, self.tau, self.outer)

    def views(self) -> list[View]:
        """The views of each synthetic image in one step: the centre view first, where it is used."""
        view = View.parse(self.augment)
        if not view.random:
            return [CENTRE]
        return [CENTRE] * (self.plain > 0) + [view] * self.copies

    def real_features(self, backbone: Backbone, data: ImageData, run: Run) -> Tensor:
        """Banked features `(1 + real_views, n, d)` of the train split: the centre view that the test uses, then random ones."""
        plain = run.bank.features(backbone, data, "train")
        if not self.real_views:
            return plain
        view = View.parse(self.augment)
        return torch.cat([plain, run.bank.features(backbone, data, "train", view=view, copies=self.real_views)])
