"""MKDT: dataset distillation by matching knowledge-distillation trajectories (Joshi et al., arXiv 2410.02116, ICLR 2025).

Trajectories of self-supervised training have too much variance to be matched, those of a student that imitates a
self-supervised teacher do not (Theorem 4.1). Experts are students trained by knowledge distillation on all real images; images,
targets and the step size eta are learned so that a few steps on them lead from an expert's weights theta*_t to those M epochs
later,

    theta_0 = theta*_t,   theta_{n+1} = theta_n - eta d/dtheta mean (g_theta_n(x_b) - z_b)^2,   n = 0 .. N-1
    L = || theta_N - theta*_{t+M} ||^2 / || theta*_t - theta*_{t+M} ||^2,                       t uniform in 0 .. T+ - 1

The set starts from the real images with the highest loss, averaged over the experts. The released code scores after the first
epoch, its initial commit after the last (`init=high_loss_first`, `high_loss_last`).

Since its clean-up the released code reads one expert for the whole run, because its buffer is not loaded again; its first
version and this one use all experts, each once per pass in random order.

Deviations: targets are standardised per dimension, so that the released step sizes mean the same for any teacher
(`standardise=false`: raw, as published); pixels are kept in [0, 1]. The gradient is exact with the memory of one inner step
(core/unroll.py). Batches are, as released, a permutation in chunks, of which the last may be short; where a path needs more,
the next permutation follows.

Claimed: up to 13 % above earlier methods on tasks with few labels (abstract). Measured (docs/ssl.md: CIFAR-100, 1,000 images,
80 steps, five experts, ConvNet of width 16, one CPU core, 600 steps of pre-training): 13.9 % with 5 % of CIFAR-100's labels and
40.3 % with 2,500 of CIFAR-10, random real images with the teacher's targets 13.8 and 40.5, all images 14.0 and 41.4.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..core.backbone import Backbone, BackboneSpec
from ..core.checkpoint import State, optimiser_state, restore_optimiser
from ..core.data import ImageData
from ..core.errors import Diverged
from ..core.method import METHODS, Method, Origin
from ..core.params import Count, Positive
from ..core.run import Run
from ..core.sets import DistilledSet
from ..core.students import MEAN, STD, StudentSpec, build_student, imitation_loss
from ..core.unroll import InnerLoop, InnerLoss
from ._loop import loop
from ._teacher import Teacher, random_images, taught, too_few
from ._trajectories import Experts, highest, kept_epochs

_MOMENTUM = 0.5  # of all three optimisers (released code)


def trajectory_loss(end: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of trajectory matching and its gradient `(p,)` with respect to the `end` of the student's path.

    `start` and `goal` `(p,)` are the expert's weights at t and at t + M.
    """
    scale = (start - goal).square().sum()
    difference = end - goal
    return difference.square().sum() / scale, 2 * difference / scale


def batches(n: int, size: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """`steps` batches of indices: permutations of 0 .. n-1 in chunks of at most `size`, one permutation after the other."""
    found: list[Tensor] = []
    while len(found) < steps:
        found += torch.randperm(n, generator=generator).split(size)
    return found[:steps]


@dataclass(frozen=True)
class Learned:
    """The learnable tensors; pixels are in units of the student's normalised input, where the released rate belongs."""

    pixels: nn.Parameter  # (n, 3, s, s)
    targets: nn.Parameter  # (n, d)
    rate: nn.Parameter  # scalar

    @classmethod
    def of(cls, initial: DistilledSet, rate: float, device: torch.device) -> "Learned":
        assert isinstance(initial.images, Tensor)
        assert initial.targets is not None
        start = ((initial.images - MEAN) / STD, initial.targets, torch.tensor(rate))
        return cls(*(nn.Parameter(tensor.to(device)) for tensor in start))

    def images(self) -> Tensor:
        """The images `(n, 3, s, s)`, in [0, 1] up to rounding, without a graph."""
        return self.pixels.detach() * STD + MEAN

    @torch.no_grad()
    def clamp(self) -> None:
        """Back into [0, 1]."""
        self.pixels.clamp_((0 - MEAN) / STD, (1 - MEAN) / STD)


def match(loss_of: InnerLoss, learned: Learned, rows: list[Tensor], start: Tensor, goal: Tensor) -> Tensor:
    """Set the gradients of the `learned` tensors for one path over the batches `rows`; returns the loss (detached scalar)."""
    images = learned.images()
    batched = [indices.to(images.device) for indices in rows]
    loop = InnerLoop(loss_of, images, learned.targets.detach(), learned.rate.detach(), batched)
    path = loop.descend(start)
    loss, cotangent = trajectory_loss(path[-1], start, goal)
    by_images, learned.targets.grad, learned.rate.grad = loop.backpropagate(path, cotangent)
    learned.pixels.grad = by_images * STD
    return loss


@METHODS.register("mkdt")
@dataclass(frozen=True)
class MKDT(Method):
    """Matching knowledge-distillation trajectories (MKDT): learned images, targets and student rate for pre-training."""

    origin: ClassVar[Origin] = "released code"

    student: StudentSpec = "convnet"  # ConvNet-3 for 32 pixels; convnet[widths=128-128-128-128] for 64
    size: Count = 32  # pixels of the student's input and of the set's images
    init: Literal["random", "high_loss_first", "high_loss_last"] = "high_loss_first"  # loss after the first or last epoch
    learn: Literal["all", "targets", "rate"] = "all"  # targets: with the rate, images stay; rate: images and targets stay
    steps: Count = 5000  # 10,000 for TinyImageNet
    inner_steps: Count = 40  # N; 10 for TinyImageNet
    batch: Count = 256  # synthetic images per inner step
    match_epochs: Count = 2  # M
    start_epochs: Count = 2  # T+: paths start after 0 .. T+ - 1 epochs; 5 for 5 % of CIFAR
    lr_images: Positive = 1000.0  # SGD, in units of the student's normalised input; 1e4 for 5 %, 1e5 for TinyImageNet
    lr_targets: Positive = 1.0
    lr_rate: Positive = 1e-4
    rate: Positive = 0.1  # where eta starts
    experts: Count = 100
    expert_lr: Positive = 0.1
    last_epoch: Count = 20  # of the released experts; read by init=high_loss_last; experts are trained that far only then
    standardise: bool = True  # targets per dimension; false: the teacher's raw features, as published

    trial: ClassVar[dict[str, Any]] = {"student": "convnet[widths=4-4]", "size": 8, "experts": 2, "inner_steps": 3}

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        return too_few(self.name, data, ipc * data.num_classes)

    def trajectories(self) -> Experts:
        kept = kept_epochs(self.start_epochs, self.match_epochs, self.scoring_epoch)
        return Experts(self.student, self.size, self.experts, self.expert_lr, kept)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        teacher = Teacher.of(backbone, data, self.standardise, run)
        experts = self.trajectories()
        paths = [experts.trajectory(k, teacher, data, run) for k in range(self.experts)]
        chosen = self.initial_images(experts, teacher, data, ipc * data.num_classes, run)
        initial = taught(teacher, data, chosen, self.size)
        learned = Learned.of(initial, self.rate, run.device)
        loss_of = imitation_loss(build_student(self.student, self.size, teacher.dim, 0).to(run.device))
        visits = Visits(paths, self.start_epochs, self.match_epochs, run.generator("experts"))
        matching = Matching(self, learned, self.optimiser(learned), loss_of, visits, run.generator("inner batches"), run.device)
        loop(matching, self.steps, run)
        return replace(
            initial,
            images=learned.images().clamp(0, 1).cpu() if self.learn == "all" else initial.images,
            targets=learned.targets.detach().cpu(),
            indices=None,
            extras={"student_lr": learned.rate.item()},
            provenance={"initial_indices": chosen.tolist()},
        )

    @property
    def scoring_epoch(self) -> int | None:
        """The epoch of the experts whose losses choose the initial images; None: they are random."""
        return {"random": None, "high_loss_first": 1, "high_loss_last": self.last_epoch}[self.init]

    def initial_images(self, experts: Experts, teacher: Teacher, data: ImageData, count: int, run: Run) -> Tensor:
        """Indices `(count,)` of the real images that the set starts from."""
        if self.scoring_epoch is None:
            return random_images(data, count, run)
        return highest(experts.losses(self.scoring_epoch, teacher, data, run), count)

    def optimiser(self, learned: Learned) -> torch.optim.Optimizer:
        """SGD with momentum 0.5 over what `learn` names, each tensor at its own rate."""
        rates = {"pixels": self.lr_images, "targets": self.lr_targets, "rate": self.lr_rate}
        names = {"all": ["pixels", "targets", "rate"], "targets": ["targets", "rate"], "rate": ["rate"]}[self.learn]
        return torch.optim.SGD([{"params": [getattr(learned, name)], "lr": rates[name]} for name in names], momentum=_MOMENTUM)


@dataclass
class Visits:
    """The order in which experts are matched: each once per pass, in random order, from a random start."""

    paths: list[Tensor]  # weights (epochs, p) of each expert, row = epoch
    start_epochs: int
    match_epochs: int
    generator: torch.Generator
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  # of the present pass

    def at(self, number: int) -> tuple[Tensor, Tensor]:
        """Weights `(p,)` of the expert of step `number` (from 0) after t epochs, and M epochs later. Steps come in order."""
        place = number % len(self.paths)
        if place == 0:
            self.order = torch.randperm(len(self.paths), generator=self.generator)
        t = int(torch.randint(self.start_epochs, (), generator=self.generator))
        path = self.paths[int(self.order[place])]
        return path[t], path[t + self.match_epochs]


@dataclass
class Matching:
    """What trajectory matching moves."""

    method: MKDT
    learned: Learned
    sgd: torch.optim.Optimizer
    loss_of: InnerLoss
    visits: Visits
    generator: torch.Generator  # of inner batches
    device: torch.device

    def start(self) -> None:
        """Everything is there."""

    def step(self, number: int) -> Tensor:
        method, learned = self.method, self.learned
        rows = batches(len(learned.pixels), method.batch, method.inner_steps, self.generator)
        start, goal = (weights.to(self.device) for weights in self.visits.at(number))
        loss = match(self.loss_of, learned, rows, start, goal)
        self.sgd.step()
        if not learned.rate.detach() > 0:
            raise Diverged(f"student rate is {learned.rate.item()} at step {number + 1} of {method.steps}")
        learned.clamp()
        return loss

    def state(self) -> State:
        kept = {name: getattr(self.learned, name).detach() for name in ("pixels", "targets", "rate")}
        return {**kept, "experts": self.visits.order, **optimiser_state("sgd", self.sgd)}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        for name in ("pixels", "targets", "rate"):
            getattr(self.learned, name).copy_(state[name])
        self.visits.order = state["experts"]
        restore_optimiser("sgd", self.sgd, state)
