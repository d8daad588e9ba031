"""The loop of methods that do not optimise images through a backbone: steps, progress, divergence, checkpoints."""

from typing import Protocol

from torch import Tensor

from ..core.checkpoint import State
from ..core.errors import Diverged
from ..core.run import Run


class Resumable(Protocol):
    """What a loop moves. Between two steps it is its tensors and the run's random streams, and nothing else."""

    def start(self) -> None:
        """Prepare the first step; not called where a loop goes on."""

    def step(self, number: int) -> Tensor:
        """Take step `number` (from 0); its loss, a scalar."""
        ...

    def state(self) -> State:
        """All that the next step reads, by name; the streams apart."""
        ...

    def restore(self, state: State) -> None:
        """Become what `state` was taken from."""


def loop(moved: Resumable, steps: int, run: Run) -> None:
    """Take `steps` steps, from the run's checkpoint on where there is one, to the same bits as in one go.

    Streams that the steps draw from are asked for before. Raises `Diverged` at a loss that is not finite.
    """
    first = 0
    if (saved := run.checkpoint.load(run.streams.names())) is not None:
        first, state = saved
        moved.restore(state)
        run.streams.restore(state)
    else:
        moved.start()
    for number in range(first, steps):
        loss = moved.step(number)
        if not loss.isfinite():
            raise Diverged(f"loss is {loss.item()} at step {number + 1} of {steps}")
        run.progress(number + 1, steps, loss.item())
        if run.checkpoint.due():
            run.checkpoint.save(number + 1, {**moved.state(), **run.streams.state()})
