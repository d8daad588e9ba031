"""Training of students under evaluation: on a set's targets, then probed or fine-tuned on few labels."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.data import Split, index_chunks, stage
from ..core.run import Progress, silent
from ..core.sets import DistilledSet
from ..core.students import Student
from ..core.views import pad_crop_flip

_CHUNK = 512  # images per pass without a graph
_PAD = 4  # pixels by which images are shifted at most while fine-tuning, with mirroring (KRR-ST's released code)


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum 0.9. The length is in `epochs` or in `steps`."""

    lr: float
    weight_decay: float
    batch: int = 256
    epochs: int | None = None
    steps: int | None = None
    cosine: bool = False  # to 0, else the rate is constant
    learned_rate: bool = False  # take the set's student rate in the place of `lr`, where it has learned one

    def length(self, n: int) -> int:
        """Steps on n images; a last, smaller batch counts as one."""
        return self.steps if self.steps is not None else (self.epochs or 0) * -(-n // self.batch)

    def run(
        self,
        module: nn.Module,
        n: int,
        loss_of: Callable[[Tensor], Tensor],
        generator: torch.Generator,
        progress: Progress = silent,
    ) -> None:
        """Minimise `loss_of(indices)` over the parameters of `module`, over shuffled batches of 0 .. n-1."""
        steps = self.length(n)
        sgd = torch.optim.SGD(module.parameters(), lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        for step, indices in zip(range(steps), _shuffled(n, self.batch, generator), strict=False):
            if self.cosine:
                sgd.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / steps)) / 2
            sgd.zero_grad()
            loss_of(indices).backward()
            sgd.step()
            progress(step + 1, steps, None)


def _shuffled(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches: one permutation of 0 .. n-1 after the other."""
    while True:
        yield from torch.randperm(n, generator=generator).split(size)


def imitate(
    student: Student,
    dset: DistilledSet,
    size: int,
    recipe: Recipe,
    generator: torch.Generator,
    progress: Progress = silent,
) -> None:
    """Train `student` on the targets of `dset` by mean squared error, without augmentation. The empty set changes nothing."""
    if not len(dset):
        return
    device = student.head.weight.device
    targets = dset.targets
    assert targets is not None

    def loss_of(indices: Tensor) -> Tensor:
        return F.mse_loss(student(stage(dset.batch(indices), size).to(device)), targets[indices].to(device))

    recipe.run(student.train(), len(dset), loss_of, generator, progress)


def balanced_subset(labels: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Sorted indices of the share `fraction` of every class, at least one image of each.

    Subsets of one generator seed are nested: a larger fraction holds the smaller ones.
    """
    chosen = []
    for c in labels.unique():
        members = (labels == c).nonzero().flatten()
        count = max(1, round(fraction * len(members)))
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen).sort().values


@torch.no_grad()
def student_features(student: Student, split: Split, indices: Tensor, size: int) -> Tensor:
    """Features `(k, f)` in eval mode of the images at `indices`, on the student's device."""
    student.eval()
    device = student.head.weight.device
    return torch.cat([student.features(stage(split.images[part], size).to(device)) for part in indices.split(_CHUNK)])


def fine_tune(
    student: Student, split: Split, indices: Tensor, classes: int, size: int, recipe: Recipe, generator: torch.Generator
) -> nn.Linear:
    """Train `student` and a fresh classifier, which is returned, on labelled images with shifts and mirroring."""
    device = student.head.weight.device
    classifier = nn.Linear(student.head.in_features, classes, device=device)
    with torch.no_grad():  # torch's default, from the generator
        bound = student.head.in_features**-0.5
        for parameter in classifier.parameters():
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))

    def loss_of(batch: Tensor) -> Tensor:
        images = pad_crop_flip(stage(split.images[indices[batch]], size), _PAD, generator)
        return F.cross_entropy(classifier(student.features(images.to(device))), split.labels[indices[batch]].to(device))

    recipe.run(nn.ModuleList([student.train(), classifier]), len(indices), loss_of, generator)
    return classifier


@torch.no_grad()
def classifier_hits(student: Student, classifiers: Sequence[Callable[[Tensor], Tensor]], split: Split, size: int) -> Tensor:
    """Whether each classifier (features -> logits) is right on each image of a split, bool `(c, n)`; one pass for all."""
    student.eval()
    device = student.head.weight.device
    hits = []
    for indices in index_chunks(len(split), _CHUNK):
        features = student.features(stage(split.images[indices], size).to(device))
        labels = split.labels[indices].to(device)
        hits.append(torch.stack([classify(features).argmax(1) == labels for classify in classifiers]).cpu())
    return torch.cat(hits, dim=1)
