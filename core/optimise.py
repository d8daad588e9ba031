"""The optimisation loop that gradient methods share: steps, pyramid growth, progress, divergence."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .engine import FeatureEngine, Objective
from .errors import Diverged
from .run import Run
from .transfer import Readback


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `steps` Adam steps at `lr`; one pyramid level every `grow_every` steps (0: never)."""

    steps: int
    lr: float
    grow_every: int = 0


def optimise(
    images: nn.Module,
    engine: FeatureEngine,
    objective_at: Callable[[int], Objective],
    schedule: Schedule,
    run: Run,
) -> Tensor:
    """Minimise the objectives over the parameters of `images`; returns the final images `(n, 3, R, R)` in [0, 1].

    `objective_at(step)` gives the objective of a step (from 0), so that a method draws its real batch there. Adam starts
    afresh when the pyramid grows, as in LGM's released code. Raises `Diverged` at the first non-finite loss.
    """
    if run.chunk is None and run.device.type == "cuda":
        engine.fit(images)
    run.facts["chunks"] = engine.chunks
    losses = Losses(schedule.steps, late=run.device.type == "cuda")
    generator = run.generator("synthetic views")
    adam = _adam(images, schedule.lr)
    for step in range(schedule.steps):
        if schedule.grow_every and step and step % schedule.grow_every == 0 and images.grow():  # type: ignore[operator]
            adam = _adam(images, schedule.lr)
        adam.zero_grad()
        known = losses.add(step, engine.step(images, objective_at(step), generator))
        adam.step()
        for done, value in known:
            run.progress(done + 1, schedule.steps, value)
    return render_all(images, engine.chunk)


@dataclass
class Losses:
    """The losses of a loop as numbers: at once, or `late` by one step, so that a GPU never waits for the host in between.

    The first loss and the last are never late: the first ends the warm-up, and no set is returned on an unread loss.
    """

    steps: int
    late: bool = False
    _waiting: list[tuple[int, Readback]] = field(default_factory=list)

    def add(self, step: int, loss: Tensor) -> list[tuple[int, float]]:
        """Steps (from 0) and losses that are known now. Raises `Diverged` at a non-finite one."""
        self._waiting.append((step, Readback(loss)))
        known = len(self._waiting) - (1 if self.late and 0 < step < self.steps - 1 else 0)
        ready, self._waiting = self._waiting[:known], self._waiting[known:]
        return [(number, self._finite(number, readback.value().item())) for number, readback in ready]

    def _finite(self, step: int, value: float) -> float:
        if not math.isfinite(value):
            raise Diverged(f"loss is {value} at step {step + 1} of {self.steps}")
        return value


def _adam(images: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam on the image parameters; on a GPU in one kernel, without temporaries as large as the images."""
    return torch.optim.Adam(images.parameters(), lr=lr, fused=next(images.parameters()).is_cuda or None)


@torch.no_grad()
def render_all(images: nn.Module, chunk: int) -> Tensor:
    """All images on the CPU, rendered chunk by chunk."""
    n = len(images)  # type: ignore[arg-type]
    return torch.cat([images(slice(start, start + chunk)).cpu() for start in range(0, n, chunk)])
