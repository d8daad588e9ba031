"""Expert trajectories: students trained to imitate the teacher on all real images, of which some epochs are kept.

An expert is knowledge distillation on the train split: SGD on the mean squared error to the teacher's targets, no augmentation
(MKDT, arXiv 2410.02116, section 4; released `buffer.py`). Only the epochs that are read are trained and kept. A trajectory is
an entry of the feature bank, addressed by everything that determines it: experts are trained once for all seeds and variants, a
run that was cut short goes on with the next one, and what is not read stays on the disk.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from ..core.data import ImageData, index_chunks
from ..core.run import Run, derive_seed
from ..core.store import Rows
from ..core.students import Student, build_student, flat_weights
from ._teacher import Teacher, see_real

_SCORING_CHUNK = 512  # images per pass


@dataclass(frozen=True)
class Experts:
    """How the experts are trained. The constants are those of the released code."""

    student: str
    size: int  # pixels of the student's input
    count: int
    lr: float
    epochs: tuple[int, ...]  # after which the weights are kept, ascending; 0 is the initialisation
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch: int = 256

    def trajectory(self, k: int, teacher: Teacher, data: ImageData, run: Run) -> Tensor:
        """Weights `(len(epochs), p)` of expert k after each kept epoch, memory-mapped."""
        seed = derive_seed(k, "expert")  # of the expert alone: all distillation seeds share the experts
        student = build_student(self.student, self.size, teacher.dim, seed).to(run.device)

        def fill(out: Rows) -> None:
            for epoch, weights in enumerate(self._train(student, teacher, data, seed, run)):
                if epoch in self.epochs:
                    out[self.epochs.index(epoch)] = weights.cpu().numpy()

        shape = (len(self.epochs), len(flat_weights(student)))
        return run.bank.entry({"entry": "expert trajectory", "expert": k, **self._facts(teacher)}, shape, fill)

    def losses(self, epoch: int, teacher: Teacher, data: ImageData, run: Run) -> Tensor:
        """Squared error `(n,)` of each train image under the students of `epoch`, mean over dimensions and experts."""
        paths = [self.trajectory(k, teacher, data, run) for k in range(self.count)]
        student = build_student(self.student, self.size, teacher.dim, 0).to(run.device)

        def fill(out: Rows) -> None:
            total = np.zeros(len(data.train), np.float32)
            for path in paths:
                vector_to_parameters(path[self.epochs.index(epoch)].to(run.device), student.parameters())
                for indices in index_chunks(len(data.train), _SCORING_CHUNK):
                    images = see_real(data.train, indices, self.size).to(run.device)
                    errors = _errors(student, images, teacher.targets(indices).to(run.device))
                    total[indices[0] : indices[-1] + 1] += errors.cpu().numpy() / self.count
            out[0] = total

        facts = {"entry": "expert losses", "experts": self.count, "epoch": epoch, **self._facts(teacher)}
        return run.bank.entry(facts, (1, len(data.train)), fill)[0]

    def _train(self, student: Student, teacher: Teacher, data: ImageData, seed: int, run: Run) -> Iterator[Tensor]:
        """Weights at the initialisation and after each epoch up to the last that is kept."""
        yield flat_weights(student)
        sgd = torch.optim.SGD(student.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        order = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs[-1]):
            for indices in torch.randperm(len(data.train), generator=order).split(self.batch):
                images = see_real(data.train, indices, self.size).to(run.device)
                sgd.zero_grad()
                F.mse_loss(student(images), teacher.targets(indices).to(run.device)).backward()
                sgd.step()
            yield flat_weights(student)

    def _facts(self, teacher: Teacher) -> dict:
        recipe = {name: value for name, value in asdict(self).items() if name != "count"}
        return {**recipe, "teacher": teacher.facts, "layout": 1}  # layout rises when the computation changes


def kept_epochs(start_epochs: int, match_epochs: int, scoring: int | None) -> tuple[int, ...]:
    """The epochs that matching reads, 0 .. `start_epochs` - 1 + `match_epochs` in a row, and the one that `scoring` reads."""
    return tuple(sorted({*range(start_epochs + match_epochs), *([] if scoring is None else [scoring])}))


@torch.no_grad()
def _errors(student: Student, images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error `(n,)` of each image."""
    return (student(images) - targets).square().mean(1)


def highest(losses: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of the images with the highest loss, whatever their class, the highest first."""
    return losses.argsort(descending=True, stable=True)[:count]
