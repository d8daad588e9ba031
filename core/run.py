"""What the harness lends to a method or protocol for one run: seed, device, feature bank, progress, phases."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .checkpoint import Checkpoint, Stream, Streams

if TYPE_CHECKING:
    from .bank import FeatureBank

CPU = torch.device("cpu")
NO_CHECKPOINT = Checkpoint()
Progress = Callable[[int, int, float | None], None]  # step (from 1), number of steps, loss
Phase = Callable[[str], AbstractContextManager[Any]]


def _silent(step: int, steps: int, loss: float | None) -> None:
    pass


def _untimed(name: str) -> AbstractContextManager[None]:
    return nullcontext()


def _default_bank() -> "FeatureBank":
    from .bank import FeatureBank

    return FeatureBank()


@dataclass(frozen=True)
class Run:
    """Keyword-only extras of `distill` and `evaluate`. The defaults serve a call from Python on the CPU.

    A method reads no clock: it reports steps through `progress`, and the harness times `phase`. Random numbers come from
    `generator`, and generators that a loop draws from are asked for before it starts, so that `checkpoint` can hold them.
    """

    seed: int = 0
    device: torch.device = CPU
    bank: "FeatureBank" = field(default_factory=_default_bank)
    progress: Progress = _silent
    phase: Phase = _untimed
    chunk: int | None = None  # views per backbone pass; None: 256, and on a GPU what fits for back-propagation
    facts: dict[str, Any] = field(default_factory=dict)  # what the run found out about itself, for the record
    checkpoint: Checkpoint = NO_CHECKPOINT  # keeps the state of long loops; the default keeps nothing
    streams: Streams = field(default_factory=Streams)  # the generators handed out, part of that state

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A random stream of its own for `purpose`, derived from the seed; streams of different purposes are independent."""
        generator = Stream(device)
        generator.manual_seed(derive_seed(self.seed, purpose))
        self.streams.add(purpose, generator)
        return generator

    @property
    def chunk_size(self) -> int:
        """Views per backbone pass. 256 on the CPU is past the point where larger chunks gain speed for 32-pixel inputs."""
        return self.chunk or 256


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed from (seed, purpose), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
