"""The optimisation loop that gradient methods share: steps, pyramid growth, progress, divergence, checkpoints."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .checkpoint import State
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

    `objective_at(step)` gives the objective of a step (from 0), so that a method draws its real batch there. It may depend
    on the step and on generators of `run` alone: then an interrupted loop goes on from its checkpoint to the same bits.
    Adam starts afresh when the pyramid grows, as in LGM's released code. Raises `Diverged` at the first non-finite loss, with
    the images of the last finite one (of the start, where there was none).
    """
    generator = run.generator("synthetic views")
    adam = torch.optim.Adam(images.parameters(), lr=schedule.lr)
    first = 0
    if (saved := run.checkpoint.load(run.streams.names())) is not None:
        first, state = saved
        adam = _restore(images, state, first, schedule)
        run.streams.restore(state)  # after growing, which draws
    good = copy.deepcopy(images)
    for step in range(first, schedule.steps):
        if schedule.grow_every and step and step % schedule.grow_every == 0 and images.grow():  # type: ignore[operator]
            adam = torch.optim.Adam(images.parameters(), lr=schedule.lr)
        adam.zero_grad()
        loss = engine.step(images, objective_at(step), generator)
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"loss is {value} at step {step + 1} of {schedule.steps}", render_all(good, engine.chunk))
        good = _copied(images, good)
        adam.step()
        run.progress(step + 1, schedule.steps, value)
        if run.checkpoint.due():
            run.checkpoint.save(step + 1, {**_state(images, adam), **run.streams.state()})
    return render_all(images, engine.chunk)


@torch.no_grad()
def render_all(images: nn.Module, chunk: int) -> Tensor:
    """All images on the CPU, rendered chunk by chunk."""
    n = len(images)  # type: ignore[arg-type]
    return torch.cat([images(slice(start, start + chunk)).cpu() for start in range(0, n, chunk)])


def _copied(images: nn.Module, into: nn.Module) -> nn.Module:
    """A copy of the images; in place, which costs no allocation, unless they have grown since."""
    old, new = list(into.parameters()), list(images.parameters())
    if len(old) != len(new):
        return copy.deepcopy(images)
    with torch.no_grad():
        for kept, value in zip(old, new, strict=True):
            kept.copy_(value)
    return into


def _state(images: nn.Module, adam: torch.optim.Adam) -> State:
    """The images' parameters and Adam's moments by name."""
    moments = adam.state_dict()["state"]
    return {
        **{f"images.{name}": value for name, value in images.state_dict().items()},
        **{f"adam.{index}.{name}": value for index, values in moments.items() for name, value in values.items()},
    }


def _restore(images: nn.Module, state: State, done: int, schedule: Schedule) -> torch.optim.Adam:
    """Give the images the parameters that they had after `done` steps; returns their Adam."""
    for _ in range((done - 1) // schedule.grow_every if schedule.grow_every else 0):
        images.grow()  # type: ignore[operator]
    images.load_state_dict({name.partition(".")[2]: value for name, value in state.items() if name.startswith("images.")})
    adam = torch.optim.Adam(images.parameters(), lr=schedule.lr)
    moments: dict[int, State] = {}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind == "adam":
            index, _, moment = rest.partition(".")
            moments.setdefault(int(index), {})[moment] = value
    adam.load_state_dict({**adam.state_dict(), "state": moments})
    return adam
