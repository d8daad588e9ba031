"""The optimisation loop that gradient methods share: steps, pyramid growth, progress, divergence."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .errors import Diverged
from .run import Run

T = TypeVar("T", contravariant=True)


class Stepper(Protocol[T]):
    """What back-propagates an objective into images: `FeatureEngine`, or several of them."""

    @property
    def chunk(self) -> int: ...

    def step(self, images: nn.Module, objective: T, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `steps` Adam steps at `lr`; one pyramid level every `grow_every` steps (0: never)."""

    steps: int
    lr: float
    grow_every: int = 0


def optimise(
    images: nn.Module,
    engine: Stepper[T],
    objective_at: Callable[[int], T],
    schedule: Schedule,
    run: Run,
) -> Tensor:
    """Minimise the objectives over the parameters of `images`; returns the final images `(n, 3, R, R)` in [0, 1].

    `objective_at(step)` gives the objective of a step (from 0), so that a method draws its real batch there. Adam starts
    afresh when the pyramid grows, as in LGM's released code. Raises `Diverged` at the first non-finite loss.
    """
    generator = run.generator("synthetic views")
    adam = torch.optim.Adam(images.parameters(), lr=schedule.lr)
    for step in range(schedule.steps):
        if schedule.grow_every and step and step % schedule.grow_every == 0 and images.grow():  # type: ignore[operator]
            adam = torch.optim.Adam(images.parameters(), lr=schedule.lr)
        adam.zero_grad()
        loss = engine.step(images, objective_at(step), generator)
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"loss is {value} at step {step + 1} of {schedule.steps}")
        adam.step()
        run.progress(step + 1, schedule.steps, value)
    return render_all(images, engine.chunk)


@torch.no_grad()
def render_all(images: nn.Module, chunk: int) -> Tensor:
    """All images on the CPU, rendered chunk by chunk."""
    n = len(images)  # type: ignore[arg-type]
    return torch.cat([images(slice(start, start + chunk)).cpu() for start in range(0, n, chunk)])
