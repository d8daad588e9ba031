"""The optimisation loop that gradient methods share: steps, pyramid growth, progress, divergence, checkpoints."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .checkpoint import State, optimiser_state, restore_optimiser
from .engine import FeatureEngine
from .errors import Diverged
from .finite import cure, not_finite
from .run import Run
from .transfer import Readback

_CHUNKS = "chunks"  # in a checkpoint: the chunk of each engine

T = TypeVar("T", contravariant=True)

# Images `(k, 3, R, R)` in [0, 1] and which of the n they are -> scalar, a sum over images
Regulariser = Callable[[Tensor, slice], Tensor]

Seen = Sequence[tuple[Backbone, Tensor]]  # features `(m, d)` of all views of the images under each backbone


class Stepper(Protocol[T]):
    """What back-propagates an objective into images: `FeatureEngine`, or several of them."""

    @property
    def chunk(self) -> int:
        """Views per backbone pass, the smallest of all engines."""
        ...

    @property
    def chunks(self) -> Sequence[int]:
        """The sizes used so far."""
        ...

    @property
    def in_use(self) -> Sequence[int]:
        """The present size of each engine."""
        ...

    def fit(self, images: nn.Module) -> None:
        """Choose sizes by the memory that is free."""

    def use(self, chunks: Sequence[int]) -> None:
        """Take these sizes, one per engine."""

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
    regulariser: Regulariser | None = None,
) -> Tensor:
    """Minimise the objectives over the parameters of `images`; returns the final images `(n, 3, R, R)` in [0, 1].

    `regulariser` is a term of the loss in the images themselves, a sum over them: it is taken chunk by chunk.

    `objective_at(step)` gives the objective of a step (from 0), so that a method draws its real batch there. It may depend
    on the step and on generators of `run` alone: then an interrupted loop goes on from its checkpoint to the same bits.
    Adam starts afresh when the pyramid grows, as in LGM's released code. Raises `Diverged` at the first non-finite loss, with
    the images of the last finite one (of the start, where there was none).
    """
    generator = run.generator("synthetic views")
    first, adam = 0, _adam(images, schedule.lr)
    if run.chunk is None:
        engine.fit(images)
    if (saved := run.checkpoint.load(run.streams.names())) is not None:
        first, state = saved
        adam = _restore(images, state, first, schedule)
        run.streams.restore(state)  # after growing, which draws
        engine.use(state[_CHUNKS].tolist())  # what fits now may be another size, and so another order of summation
    losses = Losses(images, first, schedule.steps, late=reads_late(run))
    try:
        for step in range(first, schedule.steps):
            if schedule.grow_every and step and step % schedule.grow_every == 0 and images.grow():  # type: ignore[operator]
                adam = _adam(images, schedule.lr)
            adam.zero_grad()
            loss = engine.step(images, objective_at(step), generator)
            if regulariser is not None:
                loss = loss + _regularise(images, regulariser, engine.chunk)
            known = losses.add(step, loss, _seen(engine))
            adam.step()
            due = run.checkpoint.due()
            for done, value in known + (losses.read() if due else []):
                run.progress(done + 1, schedule.steps, value)
            if due:  # nothing is saved on an unread loss
                run.checkpoint.save(step + 1, {**_state(images, adam, engine), **run.streams.state()})
    except Diverged as error:
        raise Diverged(str(error), render_all(losses.last_good(), engine.chunk)) from None
    finally:
        run.facts["chunks"] = engine.chunks
    return render_all(images, engine.chunk)


def reads_late(run: Run) -> bool:
    """Whether losses are read one step late: on a GPU, which then never waits, but not where a chunk was given to save memory,
    for reading late costs a further copy of the images in half their precision."""
    return run.device.type == "cuda" and run.chunk is None


def _regularise(images: nn.Module, regulariser: Regulariser, chunk: int) -> Tensor:
    """Add the gradient of the regulariser to the parameters' `.grad`, chunk by chunk; returns its value."""
    n, total = len(images), torch.zeros((), device=next(images.parameters()).device)  # type: ignore[arg-type]
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        part = regulariser(images(rows), rows)
        part.backward()
        total += part.detach()
    return total


class Losses:
    """The losses of a loop as numbers: at once, or `late` by one step, so that a GPU never waits for the host in between.

    The first loss and the last are never late: the first ends the warm-up, and no set is returned on an unread loss. `good` is
    a copy of the images as they were at the last loss that is known to be finite, or at the start; in bfloat16, because it is
    there to be looked at, in the memory of every loop, and its range is that of float32.
    """

    def __init__(self, images: nn.Module, first: int, steps: int, late: bool = False):
        self.images, self.first, self.steps, self.late = images, first, steps, late
        self.good = copy.deepcopy(images).bfloat16()
        self._spare: nn.Module | None = None  # a copy that may be overwritten
        self._unread: tuple[int, Readback, nn.Module, Seen] | None = None  # step, its loss, the images and features then

    def last_good(self) -> nn.Module:
        """The copy `good`, to be rendered in the images' precision."""
        return copy.deepcopy(self.good).to(next(self.images.parameters()).dtype)

    def add(self, step: int, loss: Tensor, seen: Seen = ()) -> list[tuple[int, float]]:
        """Steps (from 0) and losses that are known now. `loss` is that of the present images, by the features `seen` of each
        backbone; raises `Diverged` as `read`."""
        known, readback = self.read(), Readback(loss)
        self._unread = step, readback, self.images, seen
        if not self.late or step in (self.first, self.steps - 1):
            return known + self.read()
        self._unread = step, readback, _copied(self.images, self._spare), seen
        return known

    def read(self) -> list[tuple[int, float]]:
        """The loss that is not read yet, if there is one. Raises `Diverged` where it is not finite, with the cause if it is the
        images or a backbone."""
        if self._unread is None:
            return []
        (step, readback, images, seen), self._unread = self._unread, None
        value = readback.value().item()
        if not math.isfinite(value):
            raise Diverged(f"loss is {value} at step {step + 1} of {self.steps}{_cause(images, seen)}")
        if images is self.images:
            self.good = _copied(images, self.good)
        else:
            self.good, self._spare = images, self.good
        return [(step, value)]


def _seen(engine: Stepper[Any]) -> Seen:
    """What each backbone made of the images in the last step, where the engine is one that tells."""
    engines = [each for each in getattr(engine, "engines", [engine]) if isinstance(each, FeatureEngine)]
    return [(each.backbone, each.seen) for each in engines if each.seen is not None]


def _cause(images: nn.Module, seen: Seen) -> str:
    """What a message adds about a loss that is not finite: whether the images went first, or a backbone's features of them."""
    if not all(bool(parameter.isfinite().all()) for parameter in images.parameters()):
        return "; the images are not finite any more: a lower lr may help"
    for backbone, features in seen:
        if bad := len(not_finite(features)):
            which = f"{bad} of {len(features)} views of the images"
            return f"; {backbone.spec.name} gives features that are not finite for {which}: {cure(backbone)}"
    return ""


def _adam(images: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam on the image parameters; on a GPU in one kernel, without temporaries as large as the images."""
    return torch.optim.Adam(images.parameters(), lr=lr, fused=next(images.parameters()).is_cuda or None)


@torch.no_grad()
def render_all(images: nn.Module, chunk: int) -> Tensor:
    """All images on the CPU, rendered chunk by chunk."""
    n = len(images)  # type: ignore[arg-type]
    return torch.cat([images(slice(start, start + chunk)).cpu() for start in range(0, n, chunk)])


def _copied(images: nn.Module, into: nn.Module | None) -> nn.Module:
    """A copy of the images in bfloat16; in place, which costs no allocation, unless they have grown since."""
    old, new = list(into.parameters()) if into is not None else [], list(images.parameters())
    if into is None or len(old) != len(new):
        return copy.deepcopy(images).bfloat16()
    with torch.no_grad():
        for kept, value in zip(old, new, strict=True):
            kept.copy_(value)
    return into


def _state(images: nn.Module, adam: torch.optim.Adam, engine: Stepper) -> State:
    """The images' parameters and Adam's moments by name, and the chunks."""
    return {
        **{f"images.{name}": value for name, value in images.state_dict().items()},
        **optimiser_state("adam", adam),
        _CHUNKS: torch.tensor(list(engine.in_use)),
    }


def _restore(images: nn.Module, state: State, done: int, schedule: Schedule) -> torch.optim.Adam:
    """Give the images the parameters that they had after `done` steps; returns their Adam."""
    for _ in range((done - 1) // schedule.grow_every if schedule.grow_every else 0):
        images.grow()  # type: ignore[operator]
    images.load_state_dict({name.partition(".")[2]: value for name, value in state.items() if name.startswith("images.")})
    adam = _adam(images, schedule.lr)
    restore_optimiser("adam", adam, state)
    return adam
