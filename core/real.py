"""Batches of real features for objectives that score synthetic images against real ones."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .backbone import Backbone
from .data import Images, Split, stage
from .parallel import gather, shard
from .run import Run
from .transfer import to_device
from .views import View, ViewParams, apply, sample, skip_noise

# Features up to this share of the free GPU memory stay on the GPU; larger ones are gathered on the host, batch by batch.
_RESIDENT_SHARE = 0.25


def resident(features: Tensor, device: torch.device) -> Tensor:
    """The features on the device if they take a small part of its memory, otherwise where they are."""
    if device.type == "cuda" and features.nbytes < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return features.to(device)
    return features


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
        order = labels.argsort(stable=True) if balanced else None
        return cls(resident(features, device), labels, size, device, order, labels.unique(return_counts=True)[1])

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features `(size, d)` and labels `(size,)` on the device; `generator` is on the CPU."""
        images = self._draw_images(generator)
        copies = torch.randint(len(self.features), (self.size,), generator=generator)
        where = self.features.device
        features = self.features[to_device(copies, where), to_device(images, where)]
        return to_device(features, self.device), to_device(self.labels[images], self.device)

    def _draw_images(self, generator: torch.Generator) -> Tensor:
        if self.order is None:
            return torch.randint(len(self.labels), (self.size,), generator=generator)
        classes = torch.randint(len(self.counts), (self.size,), generator=generator)
        first = self.counts.cumsum(0) - self.counts
        within = (torch.rand(self.size, generator=generator, dtype=torch.float64) * self.counts[classes]).long()
        return self.order[first[classes] + within]


@torch.no_grad()
def view_features(
    backbone: Backbone, images: Images, indices: Tensor, view: View, params: ViewParams, noise: torch.Generator
) -> Tensor:
    """Features `(k, d)` of one view of each of the real images at `indices (k,)`, shared out over all processes.

    `params` holds the k views; `noise` (on the backbone's device) draws for all of them in every process.
    """
    spec, device = backbone.spec, backbone.mean.device
    own = shard(len(indices))
    staged = stage(to_device(images[indices[own]], device), spec.stage_size)
    skip_noise(view, noise, own.start, spec.input_size)
    features = backbone(apply(view, staged, params[own], spec.input_size, noise)).float()
    skip_noise(view, noise, len(indices) - own.stop, spec.input_size)
    return gather(features, len(indices))


@dataclass
class LiveBatches:
    """Batches of freshly augmented real images, shuffled, without replacement within an epoch; the last, smaller batch is
    dropped (LGM's released code: a shuffled DataLoader with drop_last).

    Where it stands follows from the step and the run's generators, so that a loop can go on in the middle of an epoch.
    """

    backbone: Backbone
    split: Split
    view: View
    size: int
    run: Run
    order: Tensor | None = field(default=None, init=False)  # of the epoch

    def __post_init__(self) -> None:
        self.size = min(self.size, len(self.split))
        self.per_epoch = len(self.split) // self.size
        self.generator = self.run.generator("real views")  # orders and views
        self.epoch = self.run.generator("real epoch")  # where `generator` stood when the epoch began
        self.noise = self.run.generator("real noise", self.run.device)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Features `(size, d)` and labels `(size,)` of a step (from 0) on the device; steps come one after the other."""
        place = step % self.per_epoch
        if place == 0:
            self.epoch.set_state(self.generator.get_state())
            self.order = torch.randperm(len(self.split), generator=self.generator)
        elif self.order is None:
            self.order = torch.randperm(len(self.split), generator=self.epoch.clone_state())
        batch = self.order[place * self.size : (place + 1) * self.size]
        features = torch.cat([self._features(indices) for indices in batch.split(self.run.chunk_size)])
        return features, to_device(self.split.labels[batch], self.run.device)

    def _features(self, indices: Tensor) -> Tensor:
        spec = self.backbone.spec
        params = sample(self.view, len(indices), self.generator, spec.stage_size, spec.input_size)
        return view_features(self.backbone, self.split.images, indices, self.view, params, self.noise)
