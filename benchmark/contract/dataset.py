"""Contract tests of a dataset. They load it twice and read a few images of each split."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ...core.data import DATASETS, DataSource, ImageData, Split
from ...core.registry import Registry
from .shared import COMMON, Broken, Checks, quietly


@dataclass
class Subject:
    """The dataset under test."""

    spec: str
    registry: Registry[Any] = DATASETS

    @cached_property
    def plugin(self) -> DataSource:
        return DATASETS.create(self.spec)

    @cached_property
    def data(self) -> ImageData:
        return self.plugin.load()

    def splits(self) -> Iterator[tuple[str, Split]]:
        yield from (("train", self.data.train), ("test", self.data.test))


def complete(subject: Subject) -> None:
    """finds nothing wrong with its own data"""
    if problems := list(subject.plugin.check()):
        raise Broken(f"check() says: {problems[0]}")


def labelled(subject: Subject) -> None:
    """has labels of its classes, at least one train image of each"""
    names = subject.data.class_names
    if len(names) < 2 or len(set(names)) != len(names):
        raise Broken(f"class names must be two or more, each once; got {names[:5]}")
    for name, split in subject.splits():
        labels = split.labels
        if labels.dtype != torch.int64 or labels.ndim != 1 or not len(labels):
            raise Broken(f"labels of {name} must be int64 (n,), got {labels.dtype} {tuple(labels.shape)}")
        if int(labels.min()) < 0 or int(labels.max()) >= len(names):
            raise Broken(f"labels of {name} must be in 0..{len(names) - 1}, got {int(labels.min())}..{int(labels.max())}")
        if len(split.images) != len(labels):
            raise Broken(f"{name} has {len(split.images)} images and {len(labels)} labels")
    if missing := set(range(len(names))) - set(subject.data.train.labels.tolist()):
        raise Broken(f"class {names[min(missing)]!r} has no train image")


def pixels(subject: Subject) -> None:
    """gives uint8 images of one size, by index and in any order"""
    shapes = set()
    for name, split in subject.splits():
        count = min(4, len(split))
        there, back = torch.arange(count), torch.arange(count).flip(0)
        images = split.images[there]
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[:2] != (count, 3):
            raise Broken(f"images of {name} must be uint8 (k, 3, h, w), got {images.dtype} {tuple(images.shape)}")
        if not torch.equal(split.images[back], images.flip(0)):
            raise Broken(f"images of {name} depend on the order in which they are asked for")
        shapes.add(tuple(images.shape[1:]))
    if len(shapes) > 1:
        raise Broken(f"train and test images have different sizes: {sorted(shapes)}; choose one, with a parameter size")


def grouped(subject: Subject) -> None:
    """has groups in the form of labels, if any"""
    for name, split in subject.splits():
        if split.groups is not None and (split.groups.dtype != torch.int64 or len(split.groups) != len(split)):
            raise Broken(f"groups of {name} must be int64 (n,) beside the labels")


def loads_the_same(subject: Subject) -> None:
    """loads the same data twice, prints nothing and leaves the world alone"""
    first = subject.data
    with quietly():
        again = subject.plugin.load()
    if not first.fingerprint or again.fingerprint != first.fingerprint:
        raise Broken("two loads have different fingerprints; it must depend on images, labels and splits alone")
    if not torch.equal(again.train.labels, first.train.labels):
        raise Broken("two loads have their train images in different orders; sort files, seed shuffles")


CHECKS: Checks[Subject] = (*COMMON, complete, labelled, pixels, grouped, loads_the_same)
