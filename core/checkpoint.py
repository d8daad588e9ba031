"""What a long loop needs to go on after a kill: its tensors and random streams, kept where the harness decides."""

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]  # tensors by name

_STREAM = "generator."


class Checkpoint:
    """Keeps the state of a loop. This one keeps nothing, which serves calls from Python.

    A loop calls `load` once before its first step and, after a step, `save` where a checkpoint is `due`; so the harness, not
    the method, reads clocks and writes files. A method that runs several loops gets a checkpoint for each, in their order.
    """

    def load(self, streams: Sequence[str]) -> tuple[int, State] | None:
        """Number of steps done and the state after them, or None to start from the beginning.

        `streams` are the names of the random streams in use; a state that holds others is not loaded.
        """
        return None

    def due(self) -> bool:
        """Whether it is time to save."""
        return False

    def save(self, step: int, state: State) -> None:
        """Replace what is kept by the state after `step` steps."""


class Stream(torch.Generator):
    """A generator that a weak reference can point at, which torch's own class does not allow in every release that we take."""


class Streams:
    """The generators that a run has handed out and that are still in use, in the order of their making."""

    def __init__(self) -> None:
        self._handed: list[tuple[str, weakref.ref[torch.Generator]]] = []

    def add(self, purpose: str, generator: torch.Generator) -> None:
        self._handed.append((purpose, weakref.ref(generator)))

    def names(self) -> list[str]:
        """A name for each; streams of one purpose are told apart by their place."""
        return list(self._in_use())

    def state(self) -> State:
        """Where each stream stands."""
        return {name: generator.get_state() for name, generator in self._in_use().items()}

    def restore(self, state: State) -> None:
        """Put each stream where it stood."""
        for name, generator in self._in_use().items():
            generator.set_state(state[name])

    def _in_use(self) -> dict[str, torch.Generator]:
        self._handed = [(purpose, ref) for purpose, ref in self._handed if ref() is not None]
        found = ((purpose, ref()) for purpose, ref in self._handed)
        return {f"{_STREAM}{k}.{purpose}": g for k, (purpose, g) in enumerate(found) if g is not None}


def stream_names(state: State) -> list[str]:
    """The random streams that a state holds, as `Streams.names` gives them."""
    return [name for name in state if name.startswith(_STREAM)]


def optimiser_state(name: str, optimiser: torch.optim.Optimizer) -> State:
    """What an optimiser keeps of its parameters, such as moments, as tensors under `name`."""
    kept = optimiser.state_dict()["state"]
    return {f"{name}.{k}.{key}": value for k, values in kept.items() for key, value in values.items() if value is not None}


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, state: State) -> None:
    """Give an optimiser what `optimiser_state` took from one with the same parameters."""
    kept: dict[int, State] = {}
    for full, value in state.items():
        if full.startswith(f"{name}."):
            index, _, key = full.removeprefix(f"{name}.").partition(".")
            kept.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": kept})
