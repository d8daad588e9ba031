"""Controls of self-supervised distillation: real images as they are, with the teacher's features as targets.

They tell what distillation adds to knowledge distillation on a subset. On a frozen backbone they are the unmodified initial
images of `krrst` (`teacher_random`, at the same seed) and of `mkdt` (`teacher_high_loss`, with the same experts).
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch

from ..core.backbone import Backbone, BackboneSpec
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.params import Count, Positive
from ..core.run import Run
from ..core.sets import DistilledSet, real_set
from ..core.students import StudentSpec
from ._teacher import Teacher, random_images, taught, too_few
from ._trajectories import Experts, highest, kept_epochs


@METHODS.register("teacher_random")
@dataclass(frozen=True)
class TeacherRandom(Method):
    """Random real images, whatever their class, with the teacher's features as targets."""

    origin: ClassVar[Origin] = "baseline"

    size: Count = 32  # pixels of the student's input and of the set's images
    standardise: bool = True  # targets per dimension

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        return too_few(self.name, data, ipc * data.num_classes)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        teacher = Teacher.of(backbone, data, self.standardise, run)
        chosen = random_images(data, ipc * data.num_classes, run)
        run.progress(1, 1, None)
        return taught(teacher, data, chosen, self.size)


@METHODS.register("teacher_high_loss")
@dataclass(frozen=True)
class TeacherHighLoss(Method):
    """The real images that experts learn last, with the teacher's features as targets: where `mkdt` starts."""

    origin: ClassVar[Origin] = "baseline"

    student: StudentSpec = "convnet"  # of the experts, as all of these
    size: Count = 32
    epoch: Literal["first", "last"] = "first"  # after which the loss counts (mkdt's init)
    match_epochs: Count = 2  # the epochs that mkdt reads, so that both share their experts
    start_epochs: Count = 2
    experts: Count = 100
    expert_lr: Positive = 0.1
    last_epoch: Count = 20
    standardise: bool = True

    deterministic: ClassVar[bool] = True  # experts do not depend on the seed
    trial: ClassVar[dict[str, Any]] = {"student": "convnet[widths=4-4]", "size": 8, "experts": 2}

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        return too_few(self.name, data, ipc * data.num_classes)

    @property
    def scoring_epoch(self) -> int:
        return 1 if self.epoch == "first" else self.last_epoch

    def trajectories(self) -> Experts:
        kept = kept_epochs(self.start_epochs, self.match_epochs, self.scoring_epoch)
        return Experts(self.student, self.size, self.experts, self.expert_lr, kept)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        teacher = Teacher.of(backbone, data, self.standardise, run)
        chosen = highest(self.trajectories().losses(self.scoring_epoch, teacher, data, run), ipc * data.num_classes)
        run.progress(1, 1, None)
        return taught(teacher, data, chosen, self.size)


@METHODS.register("teacher_full")
@dataclass(frozen=True)
class TeacherFull(Method):
    """All training images with the teacher's features as targets: knowledge distillation on the full data, the ceiling."""

    origin: ClassVar[Origin] = "baseline"

    standardise: bool = True  # targets per dimension

    uses_ipc: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        teacher = Teacher.of(backbone, data, self.standardise, run)
        everything = torch.arange(len(data.train))
        run.progress(1, 1, None)
        return replace(
            real_set(data, everything, copy=False),
            labels=None,  # `full` is the ceiling of classification probes
            targets=teacher.targets(everything),
            target_kind="teacher_features",
            target_mean=teacher.mean,
            target_std=teacher.std,
        )
