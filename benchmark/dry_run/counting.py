"""How a dry run counts: what a cell sends through its networks, by running it on stand-ins until its second step is done.

The method (or protocol) runs as it is, on made-up images of 8 pixels in the numbers of the real dataset, with a backbone of one
small layer that counts what passes its door (further backbones are taken to cost as much as the first). Nothing is loaded,
downloaded or computed that takes long. What a step sends is taken as often as there are steps. Students are replaced by a
narrow one whose operations are counted, and scaled by what an image costs in the real one. Features of real images are not
computed: the bank notes that they were asked for.
"""

import dataclasses
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ...core.backbone import Backbone, BackboneSpec
from ...core.bank import FeatureBank
from ...core.data import ImageData, Split
from ...core.errors import Diverged, Unsupported, UserError
from ...core.method import Method, Protocol
from ...core.params import parse_spec
from ...core.passes import USUAL, given_chunk
from ...core.run import Run
from ...core.sets import DistilledSet, class_labels
from ...core.store import Rows
from ...core.students import StudentSpec, build_student
from ...core.views import CENTRE, View
from ..machine.measure import cpu_clock
from .image_cost import count

_STEPS = 2  # that are taken
_PATIENCE = 60.0  # CPU seconds, so that what can be counted does not depend on what else the machine does
_FILLING = 0.5  # CPU seconds for what is kept in the bank and sends no image through a network
_SIZE, _DIM = 8, 8  # of the stand-in backbone: pixels and features
_STUDENT, _STUDENT_SIZE = "convnet[widths=32-32{norm}]", 16  # so wide that solves and losses are small beside it
_TRAIN = 1024  # train images of a method with students, at least; the cost of its entries in the bank grows with them
_TEST = 256  # test images, at most; of what is done with them only the features count, and those grow with their number


@dataclass(frozen=True)
class Sizes:
    """Numbers of a dataset."""

    train: int
    test: int
    classes: int


@dataclass
class Counts:
    """What passed."""

    forward: float = 0  # images through the backbone without a graph
    backward: float = 0  # with one, and back to the pixels
    student: float = 0  # FLOPs of students, in units of a forward pass of one image through the real one

    def plus(self, other: "Counts", times: float = 1.0) -> "Counts":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counts(*(mine + times * more for mine, more in pairs))


@dataclass
class Entry:
    """Something that the bank keeps: made once for all cells that ask for it."""

    name: str
    cost: Counts
    numbers: float  # that are stored; of features: rows, each as wide as the backbone's features


@dataclass
class Found:
    """What a run of one method or protocol takes."""

    counts: Counts
    entries: list[Entry]
    largest: int  # images of the largest pass whose activations are kept
    made: DistilledSet | None  # the set, where the method came to its end
    student: tuple[str, int] | None  # spec and pixels of the student


class NotCounted(Exception):
    """Why there are no counts, in a few words."""


class _Enough(BaseException):
    """Ends a run whose steps are known."""


def count_method(method: Method, sizes: Sizes, ipc: int) -> Found:
    """What distilling takes. Raises `NotCounted`."""
    student = _student_of(method)
    train = sizes.train if student is None else min(sizes.train, max(_TRAIN, sizes.classes * ipc))
    trial = _Trial(student, sizes, scale=sizes.train / train)
    cut = dataclasses.replace(_narrow(method, student), **method.cheap_start)  # type: ignore[type-var]
    data = _made_up(sizes, train)
    return trial.run(lambda run: cut.distill(_stand_in(trial), data, ipc, run=run))


def count_protocol(protocol: Protocol, sizes: Sizes, dset: DistilledSet) -> Found:
    """What judging `dset` takes on one backbone, or on none. Raises `NotCounted`."""
    student = _student_of(protocol)
    dset = dataclasses.replace(dset, provenance={"distill_backbone": "stand-in", **dset.provenance})
    trial, cut = _Trial(student, sizes, scale=1.0), _narrow(protocol, student)
    backbone = _stand_in(trial) if protocol.uses_backbone else None
    data = _made_up(sizes, sizes.train)

    def judge(run: Run) -> None:
        if (reason := cut.supports(dset)) is not None:
            raise Unsupported(reason)
        cut.evaluate(backbone, data, dset, run=run)  # type: ignore[arg-type]

    return trial.run(judge)


def made_up_set(sizes: Sizes, ipc: int) -> DistilledSet:
    """A set as a method gives it, labels and targets."""
    labels = class_labels(sizes.classes, ipc)
    images = torch.rand(len(labels), 3, _SIZE, _SIZE)
    names = _class_names(sizes.classes)
    return DistilledSet(images, labels, names, targets=torch.rand(len(labels), _DIM), target_kind="teacher_features")


class _Trial:
    """One run and its counters."""

    def __init__(self, student: tuple[str, int] | None, sizes: Sizes, scale: float):
        self.student, self.sizes, self.scale = student, sizes, scale
        self.counts, self.largest = Counts(), 0
        self.entries: list[Entry] = []
        self.marks: list[Counts] = []  # after each step
        self.steps = 0  # that the run would take
        self.end = cpu_clock() + _PATIENCE
        self.unit = count(build_student(_narrow_spec(student[0]), _STUDENT_SIZE, _DIM, 0), _STUDENT_SIZE)[0] if student else 1.0

    def run(self, work: Callable[[Run], Any]) -> Found:
        bank = _NotingBank(self)
        made = None
        try:
            with torch.random.fork_rng(devices=[]), _Flops(self) if self.student else _nothing():
                made = work(
                    Run(
                        bank=bank,
                        chunk=given_chunk() or USUAL,
                        progress=self.progress,
                        backbone_of=lambda spec: _stand_in(self),
                    )
                )
        except _Enough:
            if not self.steps or len(self.marks) < min(_STEPS, self.steps):
                raise NotCounted(f"its first {_STEPS} steps take more than {_PATIENCE:.0f} CPU seconds to reach") from None
        except (Diverged, Unsupported, UserError) as error:
            raise NotCounted(str(error)) from None
        except Exception as error:  # a plugin that cannot bear made-up images costs its estimate, not the dry run
            raise NotCounted(f"it does not run on made-up images ({type(error).__name__})") from None
        return Found(self.total(), self.entries, self.largest, made, self.student)

    def progress(self, step: int, steps: int, loss: float | None) -> None:
        self.marks.append(dataclasses.replace(self.counts))
        self.steps = steps
        if len(self.marks) == min(_STEPS, steps) < steps:
            raise _Enough

    def total(self) -> Counts:
        """The whole run: its steps are alike."""
        if len(self.marks) < _STEPS or len(self.marks) == self.steps:
            return self.counts
        step = self.marks[-1].plus(self.marks[-2], -1)
        return self.marks[-1].plus(step, self.steps - len(self.marks))

    def passed(self, images: Tensor) -> None:
        if cpu_clock() > self.end:
            raise _Enough
        if torch.is_grad_enabled() and images.requires_grad:
            self.counts.backward += len(images)
            self.largest = max(self.largest, len(images))
        else:
            self.counts.forward += len(images)


class _Door(nn.Module):
    """A small layer that tells the trial what passes."""

    def __init__(self, trial: _Trial):
        super().__init__()
        self.trial, self.head = trial, nn.Linear(3, _DIM)

    def forward(self, images: Tensor) -> Tensor:
        self.trial.passed(images)
        return self.head(images.mean((2, 3)))


def _stand_in(trial: _Trial) -> Backbone:
    spec = BackboneSpec("stand-in", "random", "linear", "0", "0" * 64, _SIZE, _DIM, "avg", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Backbone(_Door(trial), spec)


class _NotingBank(FeatureBank):
    """A bank that computes no features and stores nothing."""

    def __init__(self, trial: _Trial):
        super().__init__()
        self.trial = trial
        self.fills: dict[tuple, Counts] = {}  # what entries of one kind cost

    def features(
        self, backbone: Backbone, data: ImageData, split: str, *, view: View = CENTRE, copies: int = 1, seed: int = 0
    ) -> Tensor:
        n = len(getattr(data, split))
        rows = copies * getattr(self.trial.sizes, split)
        name = f"features {split} {view if view.random else ''} {copies} {seed if view.random else ''}"
        self._note(Entry(name, Counts(forward=rows), rows))
        return torch.rand(copies, n, _DIM)

    def entry(self, facts: dict[str, Any], shape: tuple[int, ...], fill: Callable[[Rows], None]) -> Tensor:
        kind, trial = (fill.__qualname__, shape), self.trial
        if kind not in self.fills:
            self.fills[kind] = self._filled(fill)
        numbers = math.prod(shape) if trial.student is None else shape[0] * _weights(trial.student)
        self._note(Entry(f"{sorted(facts.items(), key=str)}", Counts().plus(self.fills[kind], trial.scale), numbers))
        return 0.1 * torch.rand(shape)

    def _filled(self, fill: Callable[[Rows], None]) -> Counts:
        """Counts of filling one entry, whose own steps end it early where it tells of them. Without students, what sends no
        image through a backbone (a head that is trained on features) costs nothing, as probes do."""
        trial = self.trial
        outer, trial.counts = trial.counts, Counts()
        marks, steps, trial.marks, trial.steps = trial.marks, trial.steps, [], 0
        try:
            with nullcontext() if trial.student else _Hurry(cpu_clock() + _FILLING):
                fill(_Nowhere())
        except _Enough:
            if not trial.steps and (trial.student or trial.counts != Counts()):
                raise
        cost = trial.total()
        trial.counts, trial.marks, trial.steps = outer, marks, steps
        return cost

    def _note(self, entry: Entry) -> None:
        if entry.name not in [known.name for known in self.trial.entries]:
            self.trial.entries.append(entry)


class _Nowhere:
    """Forgets what is written to it."""

    def __setitem__(self, where: Any, values: Any) -> None:
        pass


class _Flops(TorchDispatchMode):
    """Counts the operations of everything inside. `FlopCounterMode` follows modules by hooks that a double backward does not
    bear."""

    def __init__(self, trial: _Trial):
        super().__init__()
        self.trial = trial

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            if cpu_clock() > self.trial.end:
                raise _Enough
            self.trial.counts.student += count(*args, **(kwargs or {}), out_val=out) / self.trial.unit
        return out


class _Hurry(TorchDispatchMode):
    """Ends what runs inside at a time of the CPU's clock."""

    def __init__(self, end: float):
        super().__init__()
        self.end = end

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if cpu_clock() > self.end:
            raise _Enough
        return func(*args, **(kwargs or {}))


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True)
class _Noise:
    """Any number of images, made when they are asked for."""

    count: int
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.randint(256, (len(indices), 3, _SIZE, _SIZE), dtype=torch.uint8, generator=self.generator)


def _made_up(sizes: Sizes, train: int) -> ImageData:
    splits = (Split(_Noise(n), torch.from_numpy(np.arange(n) % sizes.classes)) for n in (train, min(sizes.test, _TEST)))
    return ImageData("made up", *splits, class_names=_class_names(sizes.classes), fingerprint="made up")


def _class_names(classes: int) -> tuple[str, ...]:
    return tuple(map(str, range(classes)))


def _student_of(plugin: Any) -> tuple[str, int] | None:
    """Spec and pixels of the student that a method or protocol trains."""
    hints = get_type_hints(type(plugin), include_extras=True)
    name = next((name for name, hint in hints.items() if hint == StudentSpec), None)
    return None if name is None else (getattr(plugin, name), plugin.size)


def _narrow(plugin: Any, student: tuple[str, int] | None) -> Any:
    """The plugin with a narrow student."""
    return plugin if student is None else dataclasses.replace(plugin, student=_narrow_spec(student[0]), size=_STUDENT_SIZE)


def _narrow_spec(spec: str) -> str:
    norm = parse_spec(spec)[1].get("norm")
    return _STUDENT.format(norm=f",norm={norm}" if norm else "")


@cache
def _weights(student: tuple[str, int]) -> int:
    """Parameters of a student; asked for each expert."""
    spec, size = student
    return sum(p.numel() for p in build_student(spec, size, 512, seed=0).parameters())
