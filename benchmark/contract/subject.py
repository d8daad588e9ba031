"""What the contract tests try a method on: tiny made-up data, a tiny random network, and a watch on side effects."""

import contextlib
import io
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.backbone import Backbone, BackboneSpec
from ...core.bank import FeatureBank
from ...core.checkpoint import Checkpoint, State
from ...core.data import ArrayImages, ImageData, Split, array_fingerprint
from ...core.method import METHODS, Method
from ...core.registry import Registry
from ...core.run import NO_CHECKPOINT, Run
from ...core.sets import DistilledSet
from ...core.store import ArrayStore

CLASSES = 3
_STEPS = 3
_PER_CLASS, _SIZE, _DIM = 8, 16, 12


def tiny_data() -> ImageData:
    """Three classes of uint8 noise around three grey levels, 8 training and 4 test images each."""
    rng = np.random.default_rng(0)

    def split(per_class: int) -> Split:
        labels = np.repeat(np.arange(CLASSES), per_class)
        noise = rng.integers(0, 60, (len(labels), 3, _SIZE, _SIZE))
        images = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
        return Split(ArrayImages(images), torch.from_numpy(labels).long())

    train, test = split(_PER_CLASS), split(4)
    return ImageData("tiny", train, test, ("dark", "grey", "light"), array_fingerprint(train, test))


def tiny_backbone() -> Backbone:
    """An untrained two-layer conv net for 16x16 pixels with 12 features, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, _DIM, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    spec = BackboneSpec(
        "tiny", "random", "conv2", "0", "tiny" * 16, _SIZE, _DIM, "avg", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    return Backbone(network, spec)


@dataclass
class Trial:
    """What one call of `distill` gave, printed, wrote and changed."""

    dset: DistilledSet
    printed: str
    written: list[str]
    changed: list[str]
    progress: list[tuple[int, int]]


class _CutShort(BaseException):
    """As Ctrl-C comes; no method may catch it."""


class _Kept(Checkpoint):
    """Keeps in memory the last state of every loop, in their order, and cuts the distillation short after some states."""

    def __init__(self, states: dict[int, tuple[int, State]] | None = None, cut_after: int | None = None):
        self.states = dict(states or {})
        self._left, self._loop = cut_after, -1

    def load(self, streams: Sequence[str]) -> tuple[int, State] | None:
        self._loop += 1
        return self.states.get(self._loop)

    def due(self) -> bool:
        return True

    def save(self, step: int, state: State) -> None:
        self.states[self._loop] = step, {name: tensor.detach().clone() for name, tensor in state.items()}
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                raise _CutShort


@dataclass
class Subject:
    """The method under test. Distilling happens once per (ipc, seed) and is shared by the checks."""

    spec: str
    cache: Path
    registry: Registry[Any] = METHODS
    _trials: dict[tuple[int, int, int], Trial] = field(default_factory=dict)

    @cached_property
    def data(self) -> ImageData:
        return tiny_data()

    @cached_property
    def backbone(self) -> Backbone:
        return tiny_backbone()

    @property
    def plugin(self) -> Method:
        """What the spec says, with all its steps."""
        return METHODS.create(self.spec)

    @cached_property
    def method(self) -> Method:
        """An instance with a handful of steps, and as small as the method knows to make itself."""
        return METHODS.create(self.spec).shortened(_STEPS)

    def trial(self, ipc: int = 1, seed: int = 0, attempt: int = 0) -> Trial:
        """Distil with `ipc` and `seed`; another `attempt` repeats it."""
        key = (ipc, seed, attempt)
        if key not in self._trials:
            self._trials[key] = self._distill(ipc, seed)
        return self._trials[key]

    def interrupted(self) -> DistilledSet | None:
        """What comes of distilling that is cut short at a checkpoint after two steps and goes on from there, in a method made
        anew; None if it was done before it could be cut short."""
        kept = _Kept(cut_after=2)
        try:
            self._distill(1, 0, kept)
        except _CutShort:
            kept = _Kept(kept.states)
            again = Subject(self.spec, self.cache)
            return again._distill(1, 0, kept).dset
        return None

    def _distill(self, ipc: int, seed: int, checkpoint: Checkpoint = NO_CHECKPOINT) -> Trial:
        steps: list[tuple[int, int]] = []
        run = Run(
            seed=seed,
            bank=FeatureBank(store=ArrayStore(self.cache)),
            progress=lambda step, of, loss: steps.append((step, of)),
            checkpoint=checkpoint,
        )
        backbone = self.backbone if self.method.uses_backbone else None
        before, out = _state(self.backbone), io.StringIO()
        with _empty_folder() as folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            dset = self.method.distill(backbone, self.data, ipc, run=run)  # type: ignore[arg-type]
            written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        changed = [name for name, value in _state(self.backbone).items() if value != before[name]]
        return Trial(dset, out.getvalue(), written, changed, steps)


def _state(backbone: Backbone) -> dict[str, Any]:
    """What a method must not change, in comparable form."""
    weights = {name: tensor.numpy().tobytes() for name, tensor in backbone.state_dict().items()}
    return {
        "the backbone's weights": weights,
        "the backbone's mode": [m.training for m in backbone.modules()] + [p.requires_grad for p in backbone.parameters()],
        "the backbone's gradients": [p.grad is None for p in backbone.parameters()],
        **world(),
    }


def world() -> dict[str, Any]:
    """Global state that no plugin may change."""
    return {
        "the global torch seed": torch.get_rng_state().numpy().tobytes(),
        "the global numpy seed": str(np.random.get_state()),
        "the global Python seed": random.getstate(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.are_deterministic_algorithms_enabled()": torch.are_deterministic_algorithms_enabled(),
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
        "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
    }


@contextlib.contextmanager
def _empty_folder() -> Iterator[Path]:
    """Work in a fresh folder, so that files which a method writes are seen."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(home)
