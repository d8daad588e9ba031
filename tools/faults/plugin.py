"""Cheap plugins for the faults: a method with checkpoints, and one that misbehaves."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from ddbench.backbones import register as register_backbone
from ddbench.core.backbone import Backbone, BackboneSource, BackboneSpec
from ddbench.core.data import ArrayImages, DataSource, ImageData, Split, array_fingerprint
from ddbench.core.engine import FeatureEngine
from ddbench.core.images import Pyramid
from ddbench.core.method import Method
from ddbench.core.optimise import Schedule, optimise
from ddbench.core.sets import DistilledSet, class_labels
from ddbench.core.views import CENTRE
from ddbench.datasets import register as register_dataset
from ddbench.methods import register


@register_backbone("fault_net")
@dataclass(frozen=True)
class FaultNet(BackboneSource):
    """An untrained convolution for 8x8 pixels."""

    def load(self) -> Backbone:
        generator = torch.Generator().manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        spec = BackboneSpec("fault_net", "random", "conv", "0", "fault", 8, 6, "avg", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        return Backbone(network, spec)


@register_dataset("fault_data")
@dataclass(frozen=True)
class FaultData(DataSource):
    """Grey levels with noise, 8x8 pixels, three classes."""

    def load(self) -> ImageData:
        rng = np.random.default_rng(0)

        def split(per_class: int) -> Split:
            labels = np.repeat(np.arange(3), per_class)
            images = rng.integers(0, 50, (len(labels), 3, 8, 8)) + 60 * labels[:, None, None, None]
            return Split(ArrayImages(images.astype(np.uint8)), torch.from_numpy(labels))

        train, test = split(60), split(30)
        return ImageData("fault_data", train, test, ("a", "b", "c"), array_fingerprint(train, test))


@register("walk")
@dataclass(frozen=True)
class Walk(Method):
    """Class means in feature space, by gradient descent with checkpoints; `wait` seconds a step."""

    steps: int = 40
    wait: float = 0.01

    def distill(self, backbone, data, ipc, *, run):
        labels = class_labels(data.num_classes, ipc)
        real = run.bank.features(backbone, data, "train")[0]
        target = torch.stack([real[data.train.labels == c].mean(0) for c in range(data.num_classes)])
        images = Pyramid(len(labels), 8, run.generator("initial images"), start=8)

        def objective(step):
            time.sleep(self.wait)
            return lambda z: (z[0] - target[labels]).square().sum()

        found = optimise(images, FeatureEngine(backbone, [CENTRE], run.chunk_size), objective, Schedule(self.steps, 0.05), run)
        return DistilledSet(found, labels, data.class_names)


@register("starved")
@dataclass(frozen=True)
class Starved(Walk):
    """The same in an address space of which `room` MiB are left; without, it takes memory until somebody ends it."""

    wait: float = 0.0
    room: int | None = None

    def distill(self, backbone, data, ipc, *, run):
        taken = []
        while self.room is None:
            taken.append(bytearray(os.urandom(1) * 2**24))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + self.room * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return super().distill(backbone, data, ipc, run=run)


@register("bad")
@dataclass(frozen=True)
class Bad(Method):
    """Misbehaves."""

    uses_backbone: ClassVar[bool] = False

    how: Literal["raise", "exit", "segfault", "fork", "flood", "hang", "hold", "stop", "close", "daemon", "thread"] = "raise"

    def distill(self, backbone, data, ipc, *, run):
        if self.how == "raise":
            raise KeyError("a bug")
        if self.how == "exit":
            sys.exit(0)
        if self.how == "segfault":
            ctypes.string_at(0)
        if self.how == "fork":
            os.fork()
        while self.how == "flood":
            print("x" * 1_000_000)
        if self.how == "close":
            os.closerange(0, 100)
        if self.how == "daemon" and os.fork() == 0:
            os.setsid()
            time.sleep(600)
        if self.how == "thread":  # for which Python waits at exit
            threading.Thread(target=time.sleep, args=[600]).start()
        if self.how == "hold":  # the interpreter's lock
            ctypes.PyDLL(None).sleep(600)
        if self.how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.how in ("hang", "close"):
            time.sleep(600)
        labels = class_labels(data.num_classes, ipc)
        return DistilledSet(torch.full((len(labels), 3, 8, 8), 0.5), labels, data.class_names)
