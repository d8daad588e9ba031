"""Feature distillation: a linear map of the student's features meets those of a larger, frozen network. No labels are read."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddbench.core.views import pad_crop_flip

from .objectives import Objective, normalise


class Distil(Objective):
    """Regression on the leading principal components of the teacher's features (Romero et al., ICLR 2015, equation 3).

    The teacher sees each image once, as it is; the student sees it shifted by up to `pad` pixels and mirrored at random,
    and so learns targets that do not depend on either.
    """

    defaults: ClassVar[dict[str, float]] = {
        "batch": 128,
        "lr": 2e-3,
        "weight_decay": 0.05,
        "components": 192,
        "whitening": 0.5,  # 0: variances as the teacher has them; 1: all components count alike
        "pad": 3,
    }
    targets: Tensor  # (n, k) of the n train images, set by `teach`

    def __init__(self, encoder: nn.Module, changes=None):
        super().__init__(encoder, changes)
        self.head = nn.Linear(self.dim, int(self.values["components"]))

    def teach(self, features: Tensor) -> None:
        """Set the teacher's features `(n, d)` of the train images, in their order."""
        self.targets = principal_components(features, int(self.values["components"]), self.values["whitening"])

    def step_loss(self, images: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        views = pad_crop_flip(images, int(self.values["pad"]), generator)
        return F.mse_loss(self.head(self.encoder(normalise(views))), self.targets[indices].to(views))


def principal_components(features: Tensor, k: int, whitening: float) -> Tensor:
    """Features `(n, d)` -> centred coordinates `(n, min(k, d))` along the directions of largest variance, float32.

    Coordinate i is divided by its standard deviation to the power `whitening`; then all are scaled to a mean square of 1.
    """
    n = len(features)
    mean = features.float().mean(0)
    covariance = sum((chunk := rows.float() - mean).T @ chunk for rows in features.split(4096)) / n
    variance, directions = torch.linalg.eigh(covariance)
    variance, directions = variance[-k:].flip(0).clamp_min(1e-12), directions[:, -k:].flip(1)
    scale = variance ** (-whitening / 2)
    scale = scale / (variance * scale.square()).mean().sqrt()
    return torch.cat([(rows.float() - mean) @ (directions * scale) for rows in features.split(4096)])
