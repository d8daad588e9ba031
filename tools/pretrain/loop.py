"""One loop for all objectives, which goes on where it was killed. Labels are never read."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddbench.backbones._weights import state_sha256
from ddbench.backbones.mini.networks import INPUT_SIZE, untrained
from ddbench.core.data import Split, stage
from ddbench.core.disk import replacing
from ddbench.core.errors import Diverged, UserError

from .barlow import BarlowTwins
from .dino import DINO
from .distil import Distil
from .mae import MAE
from .objectives import Objective
from .simclr import SimCLR

OBJECTIVES: dict[str, type[Objective]] = {"simclr": SimCLR, "barlow": BarlowTwins, "dino": DINO, "mae": MAE, "distil": Distil}
WARMUP = 0.05  # of `cosine`: share of the steps with a linearly rising learning rate
WARM_STEPS, DECAY = 200, 0.25  # of `flat`: steps of warm-up; share of the steps with a falling learning rate
CLIP = 3.0  # gradient norm, as in DINO's released code
SAVE_EVERY = 120.0  # seconds between checkpoints

Progress = Callable[[int, int, float], None]


class Batches:
    """Endless shuffled batches of indices; the last, smaller one of an epoch is dropped."""

    def __init__(self, n: int, batch: int, rng: torch.Generator):
        self.n, self.batch, self.rng = n, batch, rng
        self.order, self.at = torch.empty(0, dtype=torch.long), 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            if self.at + self.batch > len(self.order):
                self.order, self.at = torch.randperm(self.n, generator=self.rng), 0
            self.at += self.batch
            yield self.order[self.at - self.batch : self.at]


def pretrain(
    objective: str,
    architecture: str,
    split: Split,
    *,
    epochs: float,
    batch: int | None = None,
    lr: float | None = None,
    schedule: str = "cosine",
    changes: dict[str, float] | None = None,
    teacher: torch.Tensor | None = None,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    save_every: float = SAVE_EVERY,
    progress: Progress | None = None,
) -> tuple[nn.Module, float]:
    """Train `architecture` on the images of `split` (32x32); returns the encoder, on the CPU, in eval mode, and the seconds
    of processor time it took.

    `batch`, `lr` and `changes` replace the objective's own values; `teacher` are the features `(n, d)` that `distil` learns;
    `progress(step, steps, loss)` is called after each step. With a `checkpoint` file the state is kept there every
    `save_every` seconds, and a later call with the same values goes on from it to the same bits. The same seed gives the
    same weights on one machine with one number of threads. Raises `Diverged` on a non-finite loss.
    """
    rng = torch.Generator().manual_seed(seed)
    model = build(objective, architecture, seed, changes).to(device)
    if isinstance(model, Distil):
        if teacher is None:
            raise UserError("distillation needs the features of a teacher; give --teacher")
        model.teach(teacher)
    batch = min(int(batch or model.values["batch"]), len(split))
    steps = max(1, round(epochs * (len(split) // batch)))
    lr = lr or model.values["lr"]
    factor, is_flat = SCHEDULES[schedule], schedule == "flat"
    optimiser = _optimiser(model, lr)
    batches = Batches(len(split), batch, rng)
    # the number of steps may be changed while the learning rate is still flat: until then nothing depends on it
    taught = None if teacher is None else state_sha256({"first rows": teacher[:256]})
    identity = [objective, architecture, len(split), batch, lr, schedule, seed, changes, taught, None if is_flat else steps]
    done, of, before = _load(checkpoint, identity, model, optimiser, batches)
    if is_flat and of not in (0, steps) and done > decay_start(min(of, steps)):
        raise UserError(f"{checkpoint} is at step {done} of {of}, past the flat part; {steps} steps need an older one")
    model.train()
    clock, saved = time.process_time(), time.monotonic()
    for step, indices in zip(range(done, steps), batches, strict=False):
        model.decaying = is_flat and step >= decay_start(steps)
        for group in optimiser.param_groups:
            group["lr"] = lr * factor(step, steps)
        images = stage(split.images[indices].to(device), INPUT_SIZE)
        with _precision(device):
            loss = model.step_loss(images, indices, rng)
        if not math.isfinite(value := loss.item()):
            raise Diverged(f"{objective}: loss {value} at step {step + 1} of {steps}; lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        model.after_step((step + 1) / steps)
        if checkpoint is not None and (time.monotonic() - saved >= save_every or step + 1 == steps):
            seconds = before + time.process_time() - clock
            _save(checkpoint, identity, model, optimiser, batches, done=step + 1, steps=steps, seconds=seconds)
            saved = time.monotonic()
        if progress is not None:
            progress(step + 1, steps, value)
    return model.encoder.cpu().eval(), before + time.process_time() - clock


def cosine(step: int, steps: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def flat(step: int, steps: int) -> float:
    """Learning-rate factor: linear warm-up, constant, then linear to 0 over the last quarter (Hägele et al., NeurIPS 2024).

    Until the decay begins, nothing depends on `steps`: a run can be made longer or shorter on the way.
    """
    return min(1.0, (step + 1) / WARM_STEPS, (steps - step) / max(1, steps - decay_start(steps)))


def decay_start(steps: int) -> int:
    return round((1 - DECAY) * steps)


SCHEDULES = {"cosine": cosine, "flat": flat}


def build(objective: str, architecture: str, seed: int, changes: dict[str, float] | None = None) -> Objective:
    """The objective around the untrained network; its heads are drawn from the same seed."""
    encoder = untrained(architecture, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return OBJECTIVES[objective](encoder, changes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _optimiser(model: Objective, lr: float) -> torch.optim.Optimizer:
    """AdamW; biases, norms and tokens are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1 and p.shape[0] > 1], "weight_decay": model.values["weight_decay"]},
        {"params": [p for p in trained if p.ndim <= 1 or p.shape[0] == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, model.values.get("beta2", 0.999)), foreach=True)


def _save(path: Path, identity: list[Any], model, optimiser, batches: Batches, **facts: Any) -> None:
    """Write beside `path`, then rename: a kill leaves the old file or the whole new one."""
    state = {
        "identity": repr(identity),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rng": batches.rng.get_state(),
        "order": batches.order,
        "at": batches.at,
        **facts,
    }
    with replacing(path) as new:
        torch.save(state, new)


def _load(path: Path | None, identity: list[Any], model, optimiser, batches: Batches) -> tuple[int, int, float]:
    """Bring everything to where the file is; returns the steps done, of how many, and the seconds they took."""
    if path is None or not path.is_file():
        return 0, 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["identity"] != repr(identity):
        raise UserError(f"{path} is of another training ({state['identity']}); remove it or choose another --out")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    batches.rng.set_state(state["rng"])
    batches.order, batches.at = state["order"], state["at"]
    return state["done"], state["steps"], state["seconds"]


def _precision(device: str):
    return torch.autocast("cuda", torch.bfloat16) if device.startswith("cuda") else contextlib.nullcontext()
