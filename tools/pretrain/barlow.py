"""Barlow Twins: the cross-correlation of two views' embeddings becomes the identity (Zbontar et al., ICML 2021, eq. 1)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from .augment import Colour, augment
from .objectives import Objective, normalise, projector


class BarlowTwins(Objective):
    """Redundancy reduction on a three-layer projector. The paper's lambda is 0.005 at 8192 dimensions; 512 here."""

    defaults: ClassVar[dict[str, float]] = {
        "batch": 256,
        "lr": 2e-3,
        "weight_decay": 1e-4,
        "off_diagonal": 0.005,
        "crop_min": 0.2,
    }

    def __init__(self, encoder: nn.Module, changes=None):
        super().__init__(encoder, changes)
        self.head = projector(self.dim, 512, 512, 512)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        views = [augment(images, (self.values["crop_min"], 1.0), 32, generator, Colour()) for _ in range(2)]
        first, second = self.head(self.encoder(normalise(torch.cat(views)))).float().chunk(2)
        return barlow_loss(first, second, self.values["off_diagonal"])


def barlow_loss(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2 for embeddings `(n, d)`, divided by d to be independent of the width."""
    first, second = ((z - z.mean(0)) / (z.std(0, correction=0) + 1e-5) for z in (first, second))
    correlation = first.T @ second / len(first)
    diagonal = correlation.diagonal()
    rest = correlation.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + off_diagonal * rest) / len(diagonal)
