"""Batches of real features for objectives that score synthetic images against real ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .ahead import ReadAhead
from .backbone import Backbone
from .data import Split
from .encode import own_part, view_features
from .finite import refuse
from .passes import PassSize
from .run import Run
from .transfer import Readback, to_device
from .views import View, sample_in_blocks

# Features up to this share of the free GPU memory stay on the GPU; larger ones are gathered on the host, batch by batch.
_RESIDENT_SHARE = 0.25


def resident(features: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The features on the device if all of them together take a small part of its memory, otherwise where they are."""
    total = sum(each.nbytes for each in features)
    if device.type == "cuda" and total < _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return [each.to(device) for each in features]
    return list(features)


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
        (kept,) = resident([features], device)
        return cls(kept, labels, size, device, order, labels.unique(return_counts=True)[1])

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
    balanced: bool = False  # every batch has as many images of each class, up to one; an epoch sees the smallest class once
    order: Tensor | None = field(default=None, init=False)  # of the epoch

    def __post_init__(self) -> None:
        epoch = len(epoch_order(self.split.labels, self.balanced, torch.Generator()))
        self.size = min(self.size, epoch)
        self.per_epoch = epoch // self.size
        self.generator = self.run.generator("real views")  # orders and views
        self.epoch = self.run.generator("real epoch")  # where `generator` stood when the epoch began
        self.noise = self.run.generator("real noise", self.run.device)
        self._unread: tuple[int, Tensor, Readback] | None = None  # a step, its images, and whether their features are finite
        self.fits = PassSize(self.run.chunk_size)
        self.reader = ReadAhead(self.split.images, self.run.device)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Features `(size, d)` and labels `(size,)` of a step (from 0) on the device; steps come one after the other."""
        batch = self._batch(step)
        spec, size = self.backbone.spec, self.run.chunk_size
        params = sample_in_blocks(self.view, len(batch), self.generator, spec.stage_size, spec.input_size)
        images = self.reader.stream(own_part(batch.split(size)), own_part(self._next(step).split(size)))
        drawn = zip(images, range(0, len(batch), size), strict=True)
        features = [
            view_features(self.backbone, part, self.view, params[start : start + size], self.noise, self.fits)
            for part, start in drawn
        ]
        found = torch.cat(features)
        self._check(step, batch, found)
        return found, to_device(self.split.labels[batch], self.run.device)

    def _check(self, step: int, batch: Tensor, features: Tensor) -> None:
        """Raise `UserError` for features that are not finite; on a GPU, which does not wait for the host, those of the step
        before, and at the first step its own."""
        finite = Readback(features.isfinite().all(1))
        last, self._unread = self._unread, (step, batch, finite)
        at, images, flags = last if last is not None and features.is_cuda else self._unread
        refuse(images[~flags.value()], len(images), f"augmented real images of step {at + 1}", self.backbone)

    def _batch(self, step: int) -> Tensor:
        """Indices of a step's images; begins an epoch where it is due."""
        place = step % self.per_epoch
        if place == 0:
            self.epoch.set_state(self.generator.get_state())
            self.order = self._shuffled(self.generator)
        elif self.order is None:
            self.order = self._shuffled(self.epoch.clone_state())
        return self._at(place, self.order)

    def _next(self, step: int) -> Tensor:
        """What `_batch` will give for the step after this one, whose views are drawn; no stream moves."""
        place = (step + 1) % self.per_epoch
        if place == 0 or self.order is None:
            return self._at(place, self._shuffled(self.generator.clone_state()))
        return self._at(place, self.order)

    def _at(self, place: int, order: Tensor) -> Tensor:
        return order[place * self.size : (place + 1) * self.size]

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        return epoch_order(self.split.labels, self.balanced, generator)


def epoch_order(labels: Tensor, balanced: bool, generator: torch.Generator) -> Tensor:
    """The images of labels `(n,)` in random order; `balanced`: a random part of them, one of each class after the other, as
    often as the smallest class that occurs allows."""
    order = torch.randperm(len(labels), generator=generator)
    if not balanced:
        return order
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.unique(return_counts=True)[1]
    rounds = int(counts.min())
    first = counts.cumsum(0) - counts
    return by_class[(first[:, None] + torch.arange(rounds)).T.flatten()]
