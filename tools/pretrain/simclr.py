"""SimCLR: two views of an image attract, all other images of the batch repel (Chen et al., ICML 2020, equation 1)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augment import Colour, augment
from .objectives import Objective, normalise, projector


class SimCLR(Objective):
    """NT-Xent on a two-layer projection head, colours of strength 0.5 as in the paper for CIFAR (B.9).

    Views are 16 px: a ViT then sees 16 patches instead of 64 and 6 times as many images per second; it is used at 32 px.
    `final_size`, where given, is that of the views while the learning rate falls.
    Temperature 0.2 instead of the paper's 0.5 learns faster in few epochs.
    """

    defaults: ClassVar[dict[str, float]] = {
        "batch": 256,
        "lr": 1e-3,
        "weight_decay": 1e-4,
        "temperature": 0.2,
        "crop_min": 0.2,
        "size": 16,
    }

    def __init__(self, encoder: nn.Module, changes=None):
        super().__init__(encoder, changes)
        self.head = projector(self.dim, 256, 128)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        v = self.values
        size = int(v.get("final_size", v["size"]) if self.decaying else v["size"])
        views = [augment(images, (v["crop_min"], 1.0), size, generator, Colour()) for _ in range(2)]
        return nt_xent(self.head(self.encoder(normalise(torch.cat(views)))), self.values["temperature"])


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy of `z (2n, d)` whose rows i and i + n are two views of one image."""
    z = F.normalize(z.float(), dim=1)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similarity, positive)
