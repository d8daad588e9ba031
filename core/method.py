"""Contracts of the two plugin kinds that do the work: methods distil, protocols judge."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, cast

from . import registries
from .backbone import Backbone, BackboneSpec
from .data import ImageData
from .registry import Registry
from .run import Run
from .sets import DistilledSet

Origin = Literal["released code", "re-derived", "ours", "baseline"]


class _Mirroring:
    """What methods and protocols tell of mirrored images."""

    @property
    def mirrors(self) -> bool:
        """Whether it mirrors images even where the data says that mirrored ones do not keep their class; records say so.

        Here by what a parameter `augment` names; `auto` follows the data.
        """
        return "flip" in str(getattr(self, "augment", "")).split("+")


class Method(_Mirroring):
    """A distillation method: a frozen dataclass whose fields are its parameters.

        @METHODS.register("clpdd")
        @dataclass(frozen=True)
        class CLPDD(Method):
            tau: Positive = 0.2
            def distill(self, backbone, data, ipc, *, run=Run()): ...

    `distill` prints nothing, writes no files and reads no clock. Results go by the code of the class and of what it uses
    (benchmark/suite/code.py): an edited method is run again.
    """

    name: str
    # what its rows stand for: a paper as its released code has it, a paper re-derived from its text, an idea of the author of
    # this class, or real images that a method has to beat
    origin: ClassVar[Origin] = "ours"
    uses_backbone: ClassVar[bool] = True  # False: one cell serves every distil backbone
    uses_ipc: ClassVar[bool] = True  # False: one cell serves every IPC (the full-data ceiling)
    deterministic: ClassVar[bool] = False  # True: the seed changes nothing, so one seed is run
    real_images: ClassVar[bool] = False  # True: picks training images, so IPC is bounded by the smallest class
    trial: ClassVar[dict[str, Any]] = {}  # parameters, beside few steps, that make the contract tests take seconds
    cheap_start: ClassVar[
        dict[str, Any]
    ] = {}  # parameters by which a dry run reaches the first step sooner; a step costs the same

    @property
    def given_sets(self) -> tuple[str, ...]:
        """Folders of sets that parameters name: what lies there is part of what a set of this method is."""
        return ()

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        """A one-line reason why this combination makes no sense, or None."""
        if self.real_images and self.uses_ipc:
            smallest = int(data.train.labels.bincount(minlength=data.num_classes).min())
            if ipc > smallest:
                return f"{self.name} picks {ipc} real images per class, but the smallest class of {data.name} has {smallest}"
        return None

    def shortened(self, steps: int) -> Self:
        """The same method with at most `steps` optimisation steps, for the contract tests and for trying things out.

        Here a parameter `steps` is cut, and `trial` taken; a method whose work has other measures overrides this.
        """
        own = getattr(self, "steps", None)
        cut = {} if own is None else {"steps": min(steps, own)}
        return dataclasses.replace(cast(Any, self), **cut, **self.trial)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        """`ipc` images per class of `data`, distilled with `backbone`.

        Raises `Unsupported` or `Diverged`; methods with `uses_backbone = False` ignore `backbone` (it may be None).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Evaluation:
    """Result of one protocol: test accuracy (or what it `measures`) in percent per probe seed, and what else it found."""

    top1_per_seed: tuple[float, ...]
    details: dict[str, float] = field(default_factory=dict)  # for instance top5, mean_recall, worst_group, ridge
    # accuracies per probe seed under several conditions, for instance fractions of labels: a column of tables each
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the number has to carry, a line each; for instance classes that the set lacks

    @property
    def top1(self) -> float:
        return sum(self.top1_per_seed) / len(self.top1_per_seed)


class Protocol(_Mirroring):
    """An evaluation protocol: a frozen dataclass whose fields are its parameters.

    An edited protocol is run again, as an edited method is. `version` rises where the numbers of older code must not stand in
    one table with newer ones; tables never mix versions.
    """

    name: str
    version: ClassVar[int] = 1
    uses_backbone: ClassVar[bool] = True  # False: trains a network of its own, so a set is judged once
    measures: ClassVar[str] = "top-1"  # what its numbers are, in percent

    @property
    def judging_data(self) -> str | None:
        """Spec of the dataset that judges the set; None: the one that it was made from. The harness loads it."""
        return None

    @property
    def judging_backbone(self) -> str | None:
        """Spec of a backbone that plays a part beside the eval backbone, or None. The protocol loads it."""
        return None

    def supports(self, dset: DistilledSet) -> str | None:
        """A one-line reason why this set cannot be judged by this protocol, or None."""
        return None

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        """Train a probe on `dset` through `backbone`, report accuracy on the test split of `data`. Selects nothing on it.

        Protocols with `uses_backbone = False` ignore `backbone` (it may be None).
        """
        raise NotImplementedError


METHODS: Registry[Method] = registries.METHODS
PROTOCOLS: Registry[Protocol] = registries.PROTOCOLS
