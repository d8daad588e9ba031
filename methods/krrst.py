"""KRR-ST: self-supervised dataset distillation by kernel ridge regression (Lee et al., arXiv 2310.06511, ICLR 2024).

Images X_s and targets Y_s are learned so that a student trained on them predicts the teacher's features f_T of real images X_t.
Augmentation inside the self-supervised loss would bias the outer gradient, so the inner loss is a squared error without any,
and instead of unrolling its training, the student's last layer is solved in closed form on the features of a network out of a
pool (section 3.2, released code),

    L = mean (K_ts (K_ss + lambda I)^-1 Y_s - f_T(X_t))^2,   K_ab = phi(X_a) phi(X_b)^T,   lambda = 1e-6 trace(K_ss)

with phi = [student features, 1]. The networks of the pool are trained on the set as it is learned, one step at each visit.

The released pool counts those steps, and after `online` of them a network is drawn anew at every further visit, because the
counter is not set back; from then on it is never trained again (`pool_reset=released`). `intended` sets it back.

Deviations from the released code: pixels are kept in [0, 1] and the student normalises them, real and synthetic alike (the
code feeds synthetic images unnormalised); targets are standardised per dimension (`standardise=false`: raw, as published); the
ridge is solved in float64; the last, smaller batch of real images of an epoch is dropped, so that every step sees as many.

Claimed: above supervised distillation in transfer to other datasets and architectures (abstract; the tables could not be read).
Measured (docs/ssl.md: CIFAR-100, 1,000 images, 160 steps, networks of widths 16-32-64, one CPU core, 600 steps of
pre-training): 13.9 % with 5 % of CIFAR-100's labels and 40.6 % with 2,500 of CIFAR-10, random real images with the teacher's
targets 13.8 and 40.5, all images 14.0 and 41.4.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..core.backbone import Backbone, BackboneSpec
from ..core.checkpoint import State, optimiser_state, restore_optimiser
from ..core.data import ImageData
from ..core.method import METHODS, Method, Origin
from ..core.params import Count, Field, NonNegative, Positive
from ..core.ridge import add_bias, ridge_dual
from ..core.run import Run, derive_seed
from ..core.sets import DistilledSet
from ..core.students import Student, StudentSpec, build_student, flat_state, set_flat_state
from ..core.views import pad_crop_flip
from ._loop import loop
from ._teacher import Teacher, random_images, see_real, taught, too_few

_LAST_RATE = 1e-3  # share of the rate that a linear decay leaves after all steps (released code)
_PAD = 4  # pixels by which real images are shifted at most, with mirroring (released code)


def regression_loss(
    z_syn: Float[Tensor, "n f"],
    y_syn: Float[Tensor, "n d"],
    z_real: Float[Tensor, "m f"],
    y_real: Float[Tensor, "m d"],
    lam: float,
) -> Float[Tensor, ""]:
    """Mean squared error, over images and dimensions, of the ridge regression from the set to real images; a scalar.

    Student features `(n, f)` and `(m, f)`, targets `(n, d)` and `(m, d)`. The ridge, `lam` times the trace of the kernel, is a
    constant for the gradient (released code).
    """
    phi_syn, phi_real = add_bias(z_syn.double()), add_bias(z_real.double())
    ridge = lam * phi_syn.detach().square().sum()
    return F.mse_loss(phi_real @ ridge_dual(phi_syn, y_syn.double(), ridge), y_real.double())


def _checkpointed(network: Student, images: Tensor) -> Tensor:
    """Features whose graph is computed again on the way back, instead of being kept."""
    features: Any = checkpoint(network.features, images, use_reentrant=False, preserve_rng_state=False)
    return features


@dataclass
class Pool:
    """Student networks at all stages of training on the set, one of which each outer step reads."""

    method: "KRRST"
    dim: int  # of the targets
    run: Run
    networks: list[Student] = field(default_factory=list)
    optimisers: list[torch.optim.Optimizer] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)  # training steps of each network, as the released code counts them
    drawn: int = 0  # networks so far

    def start(self, images: Tensor, targets: Tensor) -> None:
        """`pool` networks, each trained for a random 1 to `online` - 1 steps."""
        generator = self.run.generator("pool ages")
        for _ in range(self.method.pool):
            self.add(self.new_network(), int(torch.randint(1, self.method.online, (), generator=generator)))
        for k, age in enumerate(self.steps):
            for _ in range(age):
                self.train(k, images, targets)

    def add(self, network: Student, steps: int) -> None:
        self.networks.append(network)
        self.optimisers.append(self.new_optimiser(network))
        self.steps.append(steps)

    def new_network(self) -> Student:
        network = self.build(derive_seed(self.run.seed, f"pool network {self.drawn}"))
        self.drawn += 1
        return network

    def build(self, seed: int) -> Student:
        return build_student(self.method.student, self.method.size, self.dim, seed).to(self.run.device)

    def new_optimiser(self, network: Student) -> torch.optim.Optimizer:
        lr, weight_decay = self.method.pool_lr, self.method.pool_decay
        return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)

    def train(self, k: int, images: Tensor, targets: Tensor) -> None:
        """One step of network `k` on the whole set."""
        network, optimiser = self.networks[k].train(), self.optimisers[k]
        optimiser.zero_grad()
        F.mse_loss(network(images), targets).backward()
        optimiser.step()

    def update(self, k: int, images: Tensor, targets: Tensor) -> None:
        """After an outer step: train network `k` once more, or draw a new one where it has had `online` steps."""
        if self.steps[k] < self.method.online:
            self.train(k, images, targets)
            self.steps[k] += 1
            return
        self.networks[k] = self.new_network()
        self.optimisers[k] = self.new_optimiser(self.networks[k])
        if self.method.pool_reset == "intended":
            self.steps[k] = 0

    def state(self) -> State:
        """Weights, running statistics, momenta and ages of all networks."""
        kept = {"pool.steps": torch.tensor(self.steps), "pool.drawn": torch.tensor(self.drawn)}
        for k, (network, optimiser) in enumerate(zip(self.networks, self.optimisers, strict=True)):
            kept |= {f"network {k}": flat_state(network), **optimiser_state(f"momenta {k}", optimiser)}
        return kept

    def restore(self, state: State) -> None:
        for k, steps in enumerate(state["pool.steps"].tolist()):
            self.add(self.build(seed=0), steps)
            set_flat_state(self.networks[k], state[f"network {k}"])
            restore_optimiser(f"momenta {k}", self.optimisers[k], state)
        self.drawn = int(state["pool.drawn"])


@METHODS.register("krrst")
@dataclass(frozen=True)
class KRRST(Method):
    """Self-supervised distillation by kernel ridge regression (KRR-ST): learned images and targets for pre-training."""

    origin: ClassVar[Origin] = "released code"

    student: StudentSpec = "convnet[widths=128-256-512,norm=batch]"
    size: Count = 32  # pixels of the student's input and of the set's images; 64 for TinyImageNet
    learn: Literal["all", "targets"] = "all"  # targets: the initial images stay as they are
    steps: Count = 160_000
    lr: Positive = 1e-4  # AdamW without decay, on pixels in [0, 1] and targets; 1e-5 for TinyImageNet and ImageNet-64
    batch: Count = 1024  # real images per step
    lam: Positive = 1e-6  # ridge, relative to the trace of the kernel
    pool: Count = 10  # networks
    online: Annotated[int, Field(ge=2)] = 1000  # training steps of a network before it is drawn anew
    pool_lr: Positive = 0.1  # SGD with momentum 0.9 on the whole set
    pool_decay: NonNegative = 1e-3
    pool_reset: Literal["intended", "released"] = "released"  # the paper trains every new network, the code only the first
    real: Literal["live", "bank"] = "live"  # augment real images and run the teacher at every step, or banked plain features
    standardise: bool = True  # targets per dimension; false: the teacher's raw features, as published

    trial: ClassVar[dict[str, Any]] = {"student": "convnet[widths=4,norm=batch]", "size": 8, "pool": 2, "online": 3}
    cheap_start: ClassVar[dict[str, Any]] = {"online": 2}  # the networks of the pool start after one step each

    @property
    def mirrors(self) -> bool:
        return self.real == "live"

    def supports(self, backbone: BackboneSpec | None, data: ImageData, ipc: int) -> str | None:
        return too_few(self.name, data, ipc * data.num_classes)

    def distill(self, backbone: Backbone, data: ImageData, ipc: int, *, run: Run) -> DistilledSet:
        teacher = Teacher.of(backbone, data, self.standardise, run)
        chosen = random_images(data, ipc * data.num_classes, run)
        initial = taught(teacher, data, chosen, self.size)
        assert isinstance(initial.images, Tensor)
        assert initial.targets is not None
        images, targets = (nn.Parameter(t.to(run.device)) for t in (initial.images, initial.targets))
        loop(
            Regression(self, images, targets, Pool(self, teacher.dim, run), RealSide(self, teacher, data, run), run),
            self.steps,
            run,
        )
        return replace(
            initial,
            images=images.detach().cpu(),
            targets=targets.detach().cpu(),
            indices=None,
            provenance={"initial_indices": chosen.tolist()},
        )

    def step_loss(self, network: Student, images: Tensor, targets: Tensor, x_real: Tensor, y_real: Tensor, run: Run) -> Tensor:
        """The outer loss through one network in eval mode; the set's features keep the activations of one chunk only."""
        network.eval()
        chunks = images.split(run.chunk_size)
        z_syn = torch.cat([_checkpointed(network, chunk) for chunk in chunks])
        with torch.no_grad():
            z_real = torch.cat([network.features(chunk) for chunk in x_real.split(run.chunk_size)])
        return regression_loss(z_syn, targets, z_real, y_real, self.lam)


@dataclass
class RealSide:
    """Batches of real images and their targets, shuffled anew at each epoch; a last, smaller batch is dropped."""

    method: KRRST
    teacher: Teacher
    data: ImageData
    run: Run
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  # of the epoch

    def __post_init__(self) -> None:
        self.size = min(self.method.batch, len(self.data.train))
        self.generator = self.run.generator("real batches")

    def at(self, number: int) -> tuple[Tensor, Tensor]:
        """Images `(batch, 3, s, s)` and targets `(batch, d)` of step `number` (from 0). Steps come in order."""
        place = number % (len(self.data.train) // self.size)
        if place == 0:
            self.order = torch.randperm(len(self.data.train), generator=self.generator)
        indices = self.order[place * self.size : (place + 1) * self.size]
        images = see_real(self.data.train, indices, self.method.size).to(self.run.device)
        if self.method.real == "bank":
            return images, self.teacher.targets(indices).to(self.run.device)
        images = pad_crop_flip(images, _PAD, self.generator)
        return images, torch.cat([self.teacher.see(chunk) for chunk in images.split(self.run.chunk_size)])


@dataclass
class Regression:
    """What kernel ridge regression moves: images, targets and the pool."""

    method: KRRST
    images: nn.Parameter
    targets: nn.Parameter
    pool: Pool
    real: RealSide
    run: Run

    def __post_init__(self) -> None:
        self.learned = [self.images, self.targets] if self.method.learn == "all" else [self.targets]
        self.adam = torch.optim.AdamW(self.learned, lr=self.method.lr, weight_decay=0)
        self.generator = self.run.generator("pool visits")

    def start(self) -> None:
        self.pool.start(self.images.detach(), self.targets.detach())

    def step(self, number: int) -> Tensor:
        k = int(torch.randint(self.method.pool, (), generator=self.generator))
        x_real, y_real = self.real.at(number)
        loss = self.method.step_loss(self.pool.networks[k], self.images, self.targets, x_real, y_real, self.run)
        for parameter, slope in zip(self.learned, torch.autograd.grad(loss, self.learned), strict=True):
            parameter.grad = slope
        self.adam.param_groups[0]["lr"] = self.method.lr * (1 - (1 - _LAST_RATE) * number / self.method.steps)
        self.adam.step()
        with torch.no_grad():
            self.images.clamp_(0, 1)
        self.pool.update(k, self.images.detach(), self.targets.detach())
        return loss.detach()

    def state(self) -> State:
        own = {"images": self.images.detach(), "targets": self.targets.detach(), "real order": self.real.order}
        return {**own, **optimiser_state("adam", self.adam), **self.pool.state()}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        self.images.copy_(state["images"])
        self.targets.copy_(state["targets"])
        self.real.order = state["real order"]
        restore_optimiser("adam", self.adam, state)
        self.pool.restore(state)
