"""Contract tests of a protocol: it judges a few real images of the tiny data through the tiny backbone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...core.backbone import Backbone
from ...core.bank import FeatureBank
from ...core.data import DATASETS, ImageData
from ...core.method import PROTOCOLS, Evaluation, Protocol
from ...core.registry import Registry
from ...core.run import Run
from ...core.sets import DistilledSet, real_set
from ...core.store import ArrayStore
from .shared import COMMON, Broken, Checks, one_line, quietly
from .subject import tiny_backbone, tiny_data

_DISTILLED_WITH = "mini_resnet_dino"


@dataclass
class Subject:
    """The protocol under test, and what it said so far."""

    spec: str
    cache: Path
    registry: Registry[Any] = PROTOCOLS
    _found: dict[int, Evaluation] = field(default_factory=dict)

    @cached_property
    def plugin(self) -> Protocol:
        return PROTOCOLS.create(self.spec)

    @cached_property
    def data(self) -> ImageData:
        other = self.plugin.judging_data
        return tiny_data() if other is None else DATASETS.create(other).load()

    @cached_property
    def backbone(self) -> Backbone:
        return tiny_backbone()

    @cached_property
    def dset(self) -> DistilledSet:
        """The first of these that it can judge: two real images per class, the same with teacher features as targets, all of
        them, and the two again as if a backbone on this machine had distilled them."""
        data = tiny_data()
        few = real_set(data, torch.cat([(data.train.labels == c).nonzero().flatten()[:2] for c in range(data.num_classes)]))
        with torch.no_grad():
            targets = self.backbone(few.images)
        taught = DistilledSet(few.images, few.labels, few.class_names, targets, "teacher_features")
        whole = real_set(data, torch.arange(len(data.train)), copy=False)
        distilled = replace(few, provenance={"distill_backbone": _DISTILLED_WITH})
        return next((dset for dset in (few, taught, whole, distilled) if self.plugin.supports(dset) is None), few)

    @cached_property
    def fingerprint(self) -> str:
        return self.dset.fingerprint()

    def evaluate(self, attempt: int = 0) -> Evaluation:
        _ = self.fingerprint  # of the set before anything was done to it
        if attempt not in self._found:
            run = Run(bank=FeatureBank(store=ArrayStore(self.cache)))
            backbone = self.backbone if self.plugin.uses_backbone else None
            self._found[attempt] = self.plugin.evaluate(backbone, self.data, self.dset, run=run)  # type: ignore[arg-type]
        return self._found[attempt]


def declares(subject: Subject) -> None:
    """declares a version, and what its numbers are"""
    protocol = subject.plugin
    if not isinstance(protocol.version, int) or protocol.version < 1 or not protocol.measures.strip():
        raise Broken("version is a whole number from 1, measures says what the percentages are")


def says_what_it_cannot(subject: Subject) -> None:
    """says in one line which sets it cannot judge"""
    one_line(subject.plugin.supports(subject.dset))
    if (reason := subject.plugin.supports(subject.dset)) is not None:
        raise Broken(f"it judges neither images with labels, nor with teacher features, nor all real images: {reason}")


def percentages(subject: Subject) -> None:
    """gives a percentage for each probe seed"""
    found = subject.evaluate()
    scores = [*found.top1_per_seed, *(score for part in found.parts.values() for score in part)]
    if not isinstance(found, Evaluation) or not _percent(scores):
        raise Broken(f"top1_per_seed and parts must be percentages, one or more; got {scores[:5]}")
    if bad := [name for name, value in found.details.items() if not math.isfinite(value)]:
        raise Broken(f"details[{bad[0]!r}] is not finite")


def same_seed_same_numbers(subject: Subject) -> None:
    """gives the same numbers for the same seed, prints nothing and leaves the world alone"""
    first = subject.evaluate()
    with quietly():
        again = subject.evaluate(1)
    if again.top1_per_seed != first.top1_per_seed or again.parts != first.parts:
        raise Broken("two runs with seed 0 differ; draw all random numbers from run.generator(...)")


def leaves_the_set_alone(subject: Subject) -> None:
    """does not change the set that it judges"""
    subject.evaluate()
    if subject.dset.fingerprint() != subject.fingerprint:
        raise Broken("the set's images, labels or targets were changed in place")


def _percent(scores: Sequence[float]) -> bool:
    return bool(scores) and all(math.isfinite(score) and 0 <= score <= 100 for score in scores)


CHECKS: Checks[Subject] = (*COMMON, declares, says_what_it_cannot, percentages, same_seed_same_numbers, leaves_the_set_alone)
