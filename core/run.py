"""What the harness lends to a method or protocol for one run: seed, device, feature bank, progress, phases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .bank import FeatureBank
from .checkpoint import Checkpoint, Stream, Streams
from .passes import USUAL, given_chunk
from .phases import Phase, untimed
from .registries import BACKBONES
from .seeds import derive_seed
from .transfer import CPU

NO_CHECKPOINT = Checkpoint()
Progress = Callable[[int, int, float | None], None]  # step (from 1), number of steps, loss


def silent(step: int, steps: int, loss: float | None) -> None:
    """The progress of a run that nobody watches."""


def nothing_stored(method: Any) -> None:
    """Of a run that keeps no sets."""


def load_backbone(spec: str) -> Any:
    """The backbone of a spec, on the CPU."""
    return BACKBONES.create(spec).load()


@dataclass(frozen=True)
class Run:
    """Keyword-only extras of `distill` and `evaluate`. The defaults serve a call from Python on the CPU.

    A method reads no clock: it reports steps through `progress`, and the harness times `phase`. Random numbers come from
    `generator`, and generators that a loop draws from are asked for before it starts, so that `checkpoint` can hold them.
    """

    seed: int = 0
    device: torch.device = CPU
    bank: FeatureBank = field(default_factory=FeatureBank)
    progress: Progress = silent
    phase: Phase = untimed
    chunk: int | None = field(default_factory=given_chunk)  # views per backbone pass; None: 256, to back-propagate what fits
    backbone_of: Callable[[str], Any] = load_backbone  # further backbones, by spec; a dry run lends stand-ins
    # the set that another method gives for the same backbone, data, IPC and seed, where it is there already: the same bits as
    # those of its `distill` with this run, which a method calls for None
    stored_set: Callable[[Any], Any] = nothing_stored
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
        """Views per backbone pass."""
        return self.chunk or USUAL
