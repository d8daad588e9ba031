"""Batches of real features for objectives that score synthetic images against real ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Banks up to this share of the free GPU memory stay on the GPU; larger ones are gathered on the host, batch by batch.
_RESIDENT_SHARE = 0.25


@dataclass(frozen=True)
class RealBatches:
    """Random batches out of banked features `(copies, n, d)` and labels `(n,)`.

    `balanced` draws every class with the same probability, whatever its size; otherwise images are drawn uniformly.
    Draws are with replacement, over all copies (augmented views) of each image.
    """

    features: Tensor
    labels: Tensor
    size: int
    device: torch.device
    order: Tensor | None  # images sorted by class, for balanced draws
    counts: Tensor  # images per class that occurs, in the order of `order`

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, size: int, balanced: bool, device: torch.device) -> "RealBatches":
        if device.type == "cuda" and features.nbytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            features = features.to(device)
        order = labels.argsort(stable=True) if balanced else None
        return cls(features, labels, size, device, order, labels.unique(return_counts=True)[1])

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features `(size, d)` and labels `(size,)` on the device; `generator` is on the CPU."""
        images = self._draw_images(generator)
        copies = torch.randint(len(self.features), (self.size,), generator=generator)
        where = self.features.device
        return self.features[copies.to(where), images.to(where)].to(self.device), self.labels[images].to(self.device)

    def _draw_images(self, generator: torch.Generator) -> Tensor:
        if self.order is None:
            return torch.randint(len(self.labels), (self.size,), generator=generator)
        classes = torch.randint(len(self.counts), (self.size,), generator=generator)
        first = self.counts.cumsum(0) - self.counts
        within = (torch.rand(self.size, generator=generator, dtype=torch.float64) * self.counts[classes]).long()
        return self.order[first[classes] + within]
