"""Plugins that the harness tests run: tiny ones that work, and methods and protocols that fail in every way a cell can fail."""

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from ddbench.core.backbone import BACKBONES, Backbone, BackboneSource, BackboneSpec
from ddbench.core.data import DATASETS, ArrayImages, DataSource, ImageData, Split, array_fingerprint
from ddbench.core.errors import Diverged, Unsupported, UserError
from ddbench.core.method import METHODS, PROTOCOLS, Evaluation, Method, Protocol
from ddbench.core.sets import DistilledSet, class_labels


@BACKBONES.register("fake_net")
@dataclass(frozen=True)
class FakeNet(BackboneSource):
    """An untrained convolution for 8x8 pixels; every `seed` has weights of its own."""

    seed: int = 0

    def load(self) -> Backbone:
        generator = torch.Generator().manual_seed(self.seed)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        name = f"fake_net[seed={self.seed}]" if self.seed else "fake_net"
        spec = BackboneSpec(name, "random", "conv", "0", f"fake{self.seed}", 8, 6, "avg", (0.5,) * 3, (0.25,) * 3)
        return Backbone(network, spec)


@DATASETS.register("fake_data")
@dataclass(frozen=True)
class FakeData(DataSource):
    """Grey levels with noise, 8x8 pixels."""

    classes: int = 3
    file: Path | None = None  # a file that must exist, to test missing data

    def load(self) -> ImageData:
        if self.file is not None and not self.file.exists():
            raise UserError(f"dataset file {self.file} does not exist")
        rng = np.random.default_rng(0)

        def split(per_class: int) -> Split:
            labels = np.repeat(np.arange(self.classes), per_class)
            images = rng.integers(0, 50, (len(labels), 3, 8, 8)) + 60 * labels[:, None, None, None]
            return Split(ArrayImages(images.astype(np.uint8)), torch.from_numpy(labels))

        train, test = split(6), split(4)
        names = tuple(f"class{c}" for c in range(self.classes))
        return ImageData("fake_data", train, test, names, array_fingerprint(train, test))


@METHODS.register("fake")
@dataclass(frozen=True)
class Fake(Method):
    """Five steps towards the mean image; `fail` says how it goes wrong, `wait` how long a step takes."""

    fail: Literal["no", "crash", "loop", "diverge", "nan", "allocate", "unsupported", "user", "die", "segfault", "fork"] = "no"
    steps: int = 5
    wait: float = 0.0
    rate: float = 0.5

    def distill(self, backbone, data, ipc, *, run) -> DistilledSet:
        print("hello from the log")
        FAILURES[self.fail]()
        labels = class_labels(data.num_classes, ipc)
        images = torch.rand(len(labels), 3, 8, 8, generator=run.generator("images"))
        target = run.bank.features(backbone, data, "train")[0].mean().item() % 1
        for step in range(self.steps):
            time.sleep(self.wait)
            images = (images + self.rate * (target - images)).clamp(0, 1)
            run.progress(step + 1, self.steps, float(images.mean()))
        if self.fail == "nan":
            images[0, 0, 0, 0] = float("nan")
        return DistilledSet(images, labels, data.class_names)


def _raise(error: Exception):
    def run() -> None:
        raise error

    return run


FAILURES = {
    "no": lambda: None,
    "nan": lambda: None,
    "crash": _raise(KeyError("a bug\nin two lines")),
    "loop": lambda: time.sleep(600),
    "diverge": _raise(Diverged("loss is nan at step 3 of 5", torch.full((3, 3, 8, 8), 0.5))),
    "allocate": lambda: torch.empty(10**15),
    "unsupported": _raise(Unsupported("makes no sense")),
    "user": _raise(UserError("this file is missing")),
    "die": lambda: os.kill(os.getpid(), 9),
    "segfault": lambda: ctypes.string_at(0),
    "fork": os.fork,  # and both go on
}


@METHODS.register("fake_floor")
@dataclass(frozen=True)
class FakeFloor(Method):
    """Uses no backbone."""

    uses_backbone: ClassVar[bool] = False

    def distill(self, backbone, data, ipc, *, run) -> DistilledSet:
        labels = class_labels(data.num_classes, ipc)
        return DistilledSet(torch.full((len(labels), 3, 8, 8), 0.5), labels, data.class_names)


@METHODS.register("fake_picky")
@dataclass(frozen=True)
class FakePicky(Method):
    """Supports nothing."""

    def supports(self, backbone, data, ipc):
        return "never makes sense"


@PROTOCOLS.register("fake_probe")
@dataclass(frozen=True)
class FakeProbe(Protocol):
    """Nearest class mean of centre features."""

    fail: Literal["no", "crash", "die", "loop", "unsupported"] = "no"
    only: str = ""  # fail on this backbone only
    seeds: int = 2

    def supports(self, dset):
        return "judges nothing" if self.fail == "unsupported" else None

    def evaluate(self, backbone, data, dset, *, run) -> Evaluation:
        if self.fail != "no" and self.only in ("", backbone.spec.name):
            FAILURES[self.fail]()
        z = run.bank.features(backbone, data, "test")[0]
        anchors = backbone(dset.batch(torch.arange(len(dset))))
        found = dset.labels[torch.cdist(z, anchors).argmin(1)]
        return Evaluation((100 * float((found == data.test.labels).float().mean()),) * self.seeds, {"infinite": float("inf")})


@PROTOCOLS.register("fake_pretrain")
@dataclass(frozen=True)
class FakePretrain(Protocol):
    """Uses no backbone; its accuracies are the numbers of classes and of images, under two names."""

    uses_backbone: ClassVar[bool] = False

    target: str | None = None
    fail: Literal["no", "crash"] = "no"

    @property
    def judging_data(self):
        return self.target

    def evaluate(self, backbone, data, dset, *, run) -> Evaluation:
        assert backbone is None
        FAILURES[self.fail]()
        parts = {"classes": (float(data.num_classes), data.num_classes + 2.0), "images": (float(len(dset)),) * 2}
        return Evaluation(parts["classes"], parts=parts)
