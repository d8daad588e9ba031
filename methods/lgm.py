"""LGM: linear gradient matching (Cazenavette et al., arXiv 2511.16674).

At each step a fresh random linear head (W, b) is drawn, and the synthetic images move so that the gradient of its
cross-entropy on them points where the gradient on real images points,

    L = 1 - cos( [dl/dW, dl/db](real), [dl/dW, dl/db](synthetic) )

one cosine over the whole flattened vector (section 3.1, released code). For a linear head both gradients are closed forms of
the features Z, the softmax outputs P and the one-hot labels Y,

    dl/dW = (P - Y)^T Z / n,    dl/db = mean(P - Y)

so no double backward pass is needed. Where the paper and its released code disagree, the default is the released code.

Its regime: a head of std `head_std` has outputs of std `head_std` times the norm of the features. Below about 1 the softmax is
near uniform and the gradient compares class means; far above it is saturated (SqueezeNet's features of norm 775: outputs of std
8). `logit_std` states the std of the outputs instead, whatever the backbone (ours). To first order the gradient holds only
differences of class means, which leave the mean of all classes free; `mean_weight` prices it (ours). Released real batches are
not balanced over classes, synthetic ones are: `balanced` balances both (ours).

Claimed: 87.2 % on ImageNet-100 and 67.9 % on ImageNet-1k, means of four ViT-B at IPC 1 (table 1). Measured (docs/findings.md:
mini zoo, IPC 1, 350 steps, ten copies, one CPU core): 102 to 113 s and 135 to 158 MiB a set; linear-probe 26.9 % on the digits
and 27.0 % on CIFAR-10, real images nearest to the class means 59.3 and 25.1 %.

Deviations: the released code crops real images at random along their longer side before it augments them; here datasets hold
the centre square, so that the ends of long images are never seen. It makes 5,001 updates and adds pyramid levels after 201,
401, ... of them; here 5,000 are made, and levels are added after 200, 400, ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.engine import FeatureEngine, Objective
from ..core.method import METHODS, Method, Origin
from ..core.optimise import Schedule, optimise
from ..core.params import Count, Natural, NonNegative, Positive
from ..core.real import LiveBatches, RealBatches
from ..core.ridge import mean_diagonal, one_hot
from ..core.run import Run
from ..core.sets import DistilledSet, class_labels
from ..core.transfer import to_device
from ..core.views import Augment, View
from ._statistics import MeanTerm, real_centres, views_with_mean
from ._synthetic import Init, Parametrisation, refuse_growth_from_images, starting_images, views_of

Head = tuple[Tensor, Tensor]  # weights (k, d), biases (k,)


def draw_head(dim: int, num_classes: int, std: float | None, generator: torch.Generator) -> Head:
    """A random head: N(0, std^2) weights and zero biases as released, or torch's default for nn.Linear (std None, A.1)."""
    if std is not None:
        return torch.randn(num_classes, dim, generator=generator) * std, torch.zeros(num_classes)
    bound = dim**-0.5
    weight = torch.empty(num_classes, dim).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(num_classes).uniform_(-bound, bound, generator=generator)


def probe_gradient(z: Float[Tensor, "n d"], y: Float[Tensor, "n k"], head: Head) -> Float[Tensor, " k*d+k"]:
    """Gradient `(k d + k,)` of the mean cross-entropy of `head` on features z `(n, d)` and one-hot targets y `(n, k)`."""
    weight, bias = head
    error = (F.softmax(z @ weight.T + bias, dim=1) - y) / len(z)
    return torch.cat([(error.T @ z).flatten(), error.sum(0)])


def matching_loss(real: Float[Tensor, " p"], synthetic: Float[Tensor, " p"]) -> Float[Tensor, ""]:
    """1 - cosine of two gradients; a scalar in [0, 2]."""
    return 1 - F.cosine_similarity(real, synthetic, dim=0)


@METHODS.register("lgm")
@dataclass(frozen=True)
class LGM(Method):
    """Linear gradient matching: synthetic images whose probe gradients point where real ones do."""

    origin: ClassVar[Origin] = "released code"

    head_std: Positive | None = 0.01  # released code; 1.0 in section 3.1, none = torch's default as in A.1
    logit_std: Positive | None = None  # std of the head's outputs on real features, in the place of head_std; none: as released
    copies: Count = 10  # views of each synthetic image per step (3 for ImageNet-1k in the paper); 1 with augment=none
    augment: Augment = "flip+crop+noise"  # of real and synthetic images alike; none: centre crop of the stage size
    noise_mean: float = 0.0  # pixel units; 0.5 in the released code until 2026-03-31
    images: Parametrisation = "pyramid"  # parametrisation (section 3.2)
    init: Init = "noise"  # or centroid: real images, those that `kmeans` picks, which LGM does not do; with grow_every=0
    decorrelate: bool = True  # colour decorrelation (section 3.2)
    steps: Count = 5000
    lr: Positive = 0.002  # Adam, on the image parameters
    grow_every: Natural = 200  # steps between pyramid levels; Adam starts afresh at each; 0: all levels from the start
    real: Literal["live", "bank"] = "live"  # augment real images at every step, or draw from banked views
    real_views: Count = 4  # views per real image in the bank
    real_batch: Natural = 0  # real images per step; 0: as many as synthetic views (A.1). From the bank, more cost little
    balanced: bool = False  # as many real images of each class per step; false: drawn whatever their class, as released
    mean_weight: NonNegative = 0.0  # price on the distance of the set's mean feature to the real one; 0 as released, try 0.1

    def __post_init__(self) -> None:
        refuse_growth_from_images(self.init, self.grow_every)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        labels = class_labels(data.num_classes, ipc)
        start = starting_images(
            backbone, data, ipc, run, init=self.init, grow_every=self.grow_every, kind=self.images, decorrelate=self.decorrelate
        )
        views = self.views()
        engine = FeatureEngine(backbone, views_with_mean(views, self.mean_weight), run.chunk_size)
        targets = one_hot(labels, data.num_classes).repeat(len(views), 1).to(run.device)
        real = self.real_features(backbone, data, views[0], self.real_batch or len(targets), run)
        std, mean_term = self.std_of_heads(backbone, data, run), self.mean_term(backbone, data, run)
        generator = run.generator("heads")

        def objective_at(step: int) -> Objective:
            weight, bias = draw_head(backbone.spec.dim, data.num_classes, std, generator)
            head = to_device(weight, run.device), to_device(bias, run.device)
            z, y = real(step)
            wanted = probe_gradient(z, one_hot(y, data.num_classes), head)

            def objective(z: Tensor) -> Tensor:
                loss = matching_loss(wanted, probe_gradient(z[-len(views) :].flatten(0, 1), targets, head))
                return loss if mean_term is None else loss + mean_term(z[0])

            return objective

        found = optimise(start, engine, objective_at, Schedule(self.steps, self.lr, self.grow_every), run)
        return DistilledSet(found, labels, data.class_names)

    def views(self) -> list[View]:
        """The views of each synthetic image whose gradient is matched."""
        return views_of(View.parse(self.augment, self.noise_mean), self.copies)

    def std_of_heads(self, backbone: Backbone, data: ImageData, run: Run) -> float | None:
        """The std of the heads' weights: `head_std`, or what gives outputs of `logit_std` on the train split."""
        if self.logit_std is None:
            return self.head_std
        return self.logit_std / float(mean_diagonal(run.bank.features(backbone, data, "train")[0]).sqrt())

    def mean_term(self, backbone: Backbone, data: ImageData, run: Run) -> MeanTerm | None:
        """The price on the common mean, where there is one."""
        return MeanTerm.of(real_centres(backbone, data, run), self.mean_weight) if self.mean_weight else None

    def real_features(
        self, backbone: Backbone, data: ImageData, view: View, size: int, run: Run
    ) -> Callable[[int], tuple[Tensor, Tensor]]:
        """The batch of `size` real views of each step."""
        if self.real == "live":
            return LiveBatches(backbone, data.train, view, size, run, self.balanced).draw
        copies = self.real_views if view.random else 1
        bank = run.bank.features(backbone, data, "train", view=view, copies=copies)
        batches = RealBatches.of(bank, data.train.labels, size, self.balanced, run.device)
        generator = run.generator("real batches")
        return lambda step: batches.draw(generator)
