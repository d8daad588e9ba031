"""Self-supervised pre-training: a fresh student learns the set's targets, then classifies with few labels.

No backbone takes part: what is judged is the student that the set makes. The recipes train by SGD with momentum 0.9 on the mean
squared error to the targets, without augmentation, in batches of 256:

    mkdt     20 epochs at the set's learned student rate, else 0.1; weight decay 1e-4 (arXiv 2410.02116, released eval.py)
    krrst    1000 epochs at 0.1, weight decay 1e-3 (arXiv 2310.06511, released test.py)
    common   1000 steps from 0.1 by a cosine to 0, weight decay 1e-4: the same for all sets, whatever their size

Then a linear probe on class-balanced fractions of the labels of the target dataset, on standardised features of the frozen
student (the published protocols differ: MKDT's probe neither balances, nor standardises, nor searches), or fine-tuning of the
whole student as KRR-ST does. Nothing is selected on the test split.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import DATASETS, ImageData
from ..core.errors import UserError
from ..core.method import PROTOCOLS, Evaluation, Protocol
from ..core.params import AfterValidator, Count, NonNegative
from ..core.registry import SpecOf
from ..core.run import Run
from ..core.seeds import derive_seed
from ..core.sets import DistilledSet
from ..core.store import Rows
from ..core.students import Student, StudentSpec, build_student, flat_state, set_flat_state
from ._evaluation import mean_recall
from ._lbfgs import fit_probe
from ._students import Recipe, balanced_subset, classifier_hits, fine_tune, imitate, student_features

RECIPES = {
    "mkdt": Recipe(lr=0.1, weight_decay=1e-4, epochs=20, learned_rate=True),
    "krrst": Recipe(lr=0.1, weight_decay=1e-3, epochs=1000),
    "common": Recipe(lr=0.1, weight_decay=1e-4, steps=1000, cosine=True),
}
FINE_TUNING = Recipe(lr=0.01, weight_decay=5e-4, cosine=True)  # KRR-ST's released test.py

StudentOf = Callable[[], Student]  # a pre-trained student, a fresh one at each call


def fractions(text: str) -> dict[str, float]:
    """Shares of the labels by column name from percentages joined by +: `1+5` -> {"1% labels": 0.01, "5% labels": 0.05}."""
    try:
        found = {f"{float(part):g}% labels": float(part) / 100 for part in text.split("+")}
    except ValueError:
        found = {}
    if not found or not all(0 < share <= 1 for share in found.values()):
        raise UserError(f"cannot read labels {text!r}; write percentages joined by +, for instance 1+5+10+100")
    return found


def _checked_fractions(text: str) -> str:
    fractions(text)
    return text


@PROTOCOLS.register("ssl-pretrain")
@dataclass(frozen=True)
class SSLPretrain(Protocol):
    """A fresh student learns the set's targets, then a linear probe (or fine-tuning) on a few labels of a target dataset."""

    version: ClassVar[int] = 1
    uses_backbone: ClassVar[bool] = False

    recipe: Literal["mkdt", "krrst", "common"] = "common"
    student: StudentSpec = "convnet"  # another one than the method's is the cross-architecture test
    size: Count = 32  # pixels of the student's input
    target: Annotated[str, SpecOf(DATASETS)] | None = None  # spec of the target dataset; none: the source
    labels: Annotated[str, AfterValidator(_checked_fractions)] = "1+5"  # percent of the target's train labels, joined by +
    readout: Literal["probe", "finetune"] = "probe"
    decay: NonNegative = 1e-3  # of the probe, times ||W||^2 (MKDT's released evaluation)
    steps: Count | None = None  # of pre-training, in the place of the recipe's length
    tune_steps: Count = 10_000  # of fine-tuning
    seeds: Count = 3  # of students and label subsets

    @property
    def judging_data(self) -> str | None:
        return self.target

    @property
    def mirrors(self) -> bool:
        return self.readout == "finetune"

    def supports(self, dset: DistilledSet) -> str | None:
        if len(dset) and dset.target_kind != "teacher_features":
            return f"the set has {dset.target_kind or 'labels only'}; pre-training needs teacher features as targets"
        return None

    def evaluate(self, backbone: Backbone | None, data: ImageData, dset: DistilledSet, *, run: Run) -> Evaluation:
        """`data` is the target dataset. Accuracies per seed, one part per fraction of labels; `top1` is the first."""
        shares = fractions(self.labels)
        readout = self.probe if self.readout == "probe" else self.tune
        students = [partial(self.pretrained, dset, seed, run) for seed in range(self.seeds)]
        rows = [readout(student_of, data, list(shares.values()), seed, run) for seed, student_of in enumerate(students)]
        hits = dict(zip(shares, torch.stack(rows, dim=1), strict=True))  # (seeds, n) per share of labels
        parts = {name: tuple((100 * part.sum(1).double() / len(data.test)).tolist()) for name, part in hits.items()}
        recalls = {name: mean_recall(part, data.test.labels) for name, part in hits.items()}
        details = {"mean_recall": next(iter(recalls.values())), **{f"mean_recall {name}": r for name, r in recalls.items()}}
        return Evaluation(next(iter(parts.values())), details, parts)

    def pretrained(self, dset: DistilledSet, seed: int, run: Run) -> Student:
        """A student of `seed` after the recipe; its initial weights and batch orders do not depend on the set.

        It is an entry of the feature bank: one pre-training serves every target, fraction of labels and readout. Its seconds
        are those of features of the evaluation.
        """
        dim = dset.targets.shape[1] if dset.targets is not None else 1  # the empty set has no targets
        student = build_student(self.student, self.size, dim, derive_seed(run.seed, f"student {seed}")).to(run.device)
        if not len(dset):
            return student
        recipe = RECIPES[self.recipe]
        if recipe.learned_rate:
            recipe = replace(recipe, lr=dset.extras.get("student_lr", recipe.lr))
        if self.steps is not None:
            recipe = replace(recipe, steps=self.steps)

        def fill(out: Rows) -> None:
            imitate(student, dset, self.size, recipe, run.generator(f"batches of student {seed}"), run.progress)
            out[0] = flat_state(student).numpy()

        facts = {
            "entry": "pre-trained student",
            "set": [dset.fingerprint(), dset.provenance.get("dataset_fingerprint")],  # the latter: whose images it refers to
            "recipe": asdict(recipe),
            "student": [self.student, self.size, run.seed, seed],
            "device": run.device.type,
            "made with": [
                torch.__version__,
                metadata.version("timm"),
                torch.get_num_threads(),
            ],  # training follows their rounding
            "layout": 1,  # raised when the computation changes
        }
        set_flat_state(student, run.bank.entry(facts, (1, len(flat_state(student))), fill)[0])
        return student

    def probe(self, student_of: StudentOf, data: ImageData, shares: list[float], seed: int, run: Run) -> Tensor:
        """Whether a linear probe per share of labels is right on the test images, `(shares, n)`; one student serves all."""
        student = student_of()
        probes = []
        for share in shares:
            chosen = self.labelled(data, share, seed, run)
            features = student_features(student, data.train, chosen, self.size)
            probes.append(fit_probe(features, data.train.labels[chosen].to(run.device), data.num_classes, self.decay))
        return classifier_hits(student, probes, data.test, self.size)

    def tune(self, student_of: StudentOf, data: ImageData, shares: list[float], seed: int, run: Run) -> Tensor:
        """The same, `(shares, n)`, after fine-tuning the whole student, afresh for each share of labels."""
        found = []
        recipe = replace(FINE_TUNING, steps=self.tune_steps)
        for share in shares:
            student, chosen = student_of(), self.labelled(data, share, seed, run)
            generator = run.generator(f"fine-tuning of student {seed}")
            classifier = fine_tune(student, data.train, chosen, data.num_classes, self.size, recipe, generator)
            found.append(classifier_hits(student, [classifier], data.test, self.size))
        return torch.cat(found)

    @staticmethod
    def labelled(data: ImageData, share: float, seed: int, run: Run) -> Tensor:
        """Indices of the labelled train images of a seed; larger shares hold the smaller ones."""
        return balanced_subset(data.train.labels, share, run.generator(f"labels of seed {seed}"))
