"""Contracts of the two plugin kinds that do the work: methods distil, protocols judge."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .backbone import Backbone, BackboneSpec
from .data import ImageData
from .registry import Registry
from .run import Run
from .sets import DistilledSet


class Method:
    """A distillation method: a frozen dataclass whose fields are its parameters.

        @METHODS.register("clpdd")
        @dataclass(frozen=True)
        class CLPDD(Method):
            tau: Positive = 0.2
            def distill(self, backbone, data, ipc, *, run=Run()): ...

    `distill` prints nothing, writes no files and reads no clock.
    """

    name: str
    uses_backbone: ClassVar[bool] = True  # False: one cell serves every distil backbone
    uses_ipc: ClassVar[bool] = True  # False: one cell serves every IPC (the full-data ceiling)
    deterministic: ClassVar[bool] = False  # True: the seed changes nothing, so one seed is run
    real_images: ClassVar[bool] = False  # True: picks training images, so IPC is bounded by the smallest class
    trial: ClassVar[dict[str, Any]] = {}  # parameters that make the contract tests (`ddbench check`) take seconds

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        """A one-line reason why this combination makes no sense, or None."""
        if self.real_images and self.uses_ipc:
            smallest = int(data.train.labels.bincount(minlength=data.num_classes).min())
            if ipc > smallest:
                return f"{self.name} picks {ipc} real images per class, but the smallest class of {data.name} has {smallest}"
        return None

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        """`ipc` images per class of `data`, distilled with `backbone`.

        Raises `Unsupported` or `Diverged`; methods with `uses_backbone = False` ignore `backbone` (it may be None).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Evaluation:
    """Result of one protocol: test accuracy in percent per probe seed, and what else the protocol found."""

    top1_per_seed: tuple[float, ...]
    details: dict[str, float] = field(default_factory=dict)  # for instance top5, worst_group, ridge
    # accuracies per probe seed under several conditions, for instance fractions of labels: a column of tables each
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def top1(self) -> float:
        return sum(self.top1_per_seed) / len(self.top1_per_seed)


class Protocol:
    """An evaluation protocol: a frozen dataclass whose fields are its parameters.

    `version` rises with every change that can move a number; tables never mix versions.
    """

    name: str
    version: ClassVar[int] = 1
    uses_backbone: ClassVar[bool] = True  # False: trains a network of its own, so a set is judged once

    @property
    def judging_data(self) -> str | None:
        """Spec of the dataset that judges the set; None: the one that it was made from. The harness loads it."""
        return None

    def supports(self, dset: DistilledSet) -> str | None:
        """A one-line reason why this set cannot be judged by this protocol, or None."""
        return None

    def evaluate(self, backbone: Backbone, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        """Train a probe on `dset` through `backbone`, report accuracy on the test split of `data`. Selects nothing on it.

        Protocols with `uses_backbone = False` ignore `backbone` (it may be None).
        """
        raise NotImplementedError


METHODS: Registry[Method] = Registry("method", package="ddbench.methods", group="ddbench.methods")
PROTOCOLS: Registry[Protocol] = Registry("protocol", package="ddbench.evaluation", group="ddbench.protocols")
