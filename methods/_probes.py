"""Ridge probes of a synthetic set, scored on real features: what `clpdd` minimises, and `duet` over several backbones.

CLP-DD (arXiv 2605.07194, abstract): with synthetic features Z_s, their one-hot targets Y_s, real features Z_r and labels y_r,

    W = Z_s^T (Z_s Z_s^T + lambda I)^-1 Y_s,      L = CE(Z_r W / tau, y_r)

`probe_loss` is this L. Ours is that two probes may share the images (`Probes`): one on all augmented copies together and one on
the centre views, each with its own ridge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.engine import Objective
from ..core.real import RealBatches
from ..core.ridge import add_bias, mean_diagonal, one_hot, solve_ridge
from ..core.run import Run
from ..core.sets import class_labels
from ..core.views import CENTRE, View

Outer = Literal["ce", "mse"]


def outer_loss(logits: Tensor, labels: Tensor, tau: float, outer: Outer) -> Tensor:
    """Loss of the probe's outputs `(n, k)` on real features against labels `(n,)`; a scalar.

    `ce`: cross-entropy of softmax(logits / tau). `mse`: mean over images of the squared distance to the one-hot target.
    """
    if outer == "ce":
        return F.cross_entropy(logits / tau, labels)
    return (logits - one_hot(labels, logits.shape[1], logits.dtype)).square().sum(1).mean()


@dataclass(frozen=True)
class Probes:
    """One ridge probe, or two that share the images, and how real features score them.

    The loss is L of the probe on augmented copies plus `plain` times that of the probe on centre views, over 1 + `plain`.
    Without augmentation there is the second alone, with `plain` 0 the first.
    """

    tau: float  # softmax temperature of the outer cross-entropy
    lam: float  # ridge of the probe on centre views, relative to the mean diagonal of the kernel
    lam_copies: float  # the same for the probe on augmented copies
    plain: float
    augment: str
    copies: int
    bias: bool = True  # a constant feature beside the backbone's
    outer: Outer = "ce"

    def views(self) -> list[View]:
        """The views of each synthetic image in one step: the centre view first, where it is used."""
        view = View.parse(self.augment)
        return [CENTRE] * (self.plain > 0) + [view] * self.copies if view.random else [CENTRE]

    def loss(self, z: Tensor, targets: Tensor, z_real: Tensor, y_real: Tensor) -> Tensor:
        """The loss of synthetic features z `(v, n, d)` of these views, with targets `(n, k)`, on real ones `(m, d)`."""
        if not View.parse(self.augment).random:
            return self.probe_loss(z, targets, z_real, y_real, self.lam)
        copies = self.probe_loss(z[-self.copies :], targets, z_real, y_real, self.lam_copies)
        if not self.plain:
            return copies
        return (copies + self.plain * self.probe_loss(z[:1], targets, z_real, y_real, self.lam)) / (1 + self.plain)

    def probe_loss(self, z: Tensor, targets: Tensor, z_real: Tensor, y_real: Tensor, lam: float) -> Tensor:
        """L of the one probe that all views z `(v, n, d)` induce together, solved in float64; a scalar.

        The constant feature is the root mean square norm of the real features, so it weighs the same for every backbone.
        """
        own = z.flatten(0, 1)
        if self.bias:
            scale = mean_diagonal(z_real).sqrt()
            own, z_real = add_bias(own, scale), add_bias(z_real, scale)
        probe = solve_ridge(own, targets.repeat(len(z), 1), lam)
        return outer_loss(z_real @ probe, y_real, self.tau, self.outer)

    def objectives(
        self, backbone: Backbone, data: ImageData, ipc: int, real_batch: int, run: Run
    ) -> Callable[[torch.Generator], Objective]:
        """The objective on a batch of banked centre-view features, all classes equally likely, that the generator draws."""
        features = run.bank.features(backbone, data, "train")
        real = RealBatches.of(features, data.train.labels, real_batch, True, run.device)
        targets = one_hot(class_labels(data.num_classes, ipc), data.num_classes).to(run.device)

        def draw(generator: torch.Generator) -> Objective:
            z_real, y_real = real.draw(generator)
            return lambda z: self.loss(z, targets, z_real, y_real)

        return draw
