"""Self-supervised pre-training of the mini zoo: one loop for the four objectives. Labels are never read.

ddbench pretrain mini_resnet_simclr -d 'arrays[path=DIR]' --out OUT --epochs 12
"""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import nn

from ...core.data import Split, stage
from ...core.errors import Diverged
from ._barlow import BarlowTwins
from ._dino import DINO
from ._mae import MAE
from ._objectives import Objective
from ._simclr import SimCLR
from .networks import INPUT_SIZE, untrained

OBJECTIVES: dict[str, type[Objective]] = {"simclr": SimCLR, "barlow": BarlowTwins, "dino": DINO, "mae": MAE}
WARMUP = 0.05  # share of the steps with a linearly rising learning rate, then cosine to 0
CLIP = 3.0  # gradient norm, as in DINO's released code

Progress = Callable[[int, int, float], None]


def pretrain(
    objective: str,
    architecture: str,
    split: Split,
    *,
    epochs: float,
    batch: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> nn.Module:
    """Train `architecture` on the images of `split` (32x32) and return the encoder, on the CPU, in eval mode.

    `batch` and `lr` default to the objective's own values; `progress(step, steps, loss)` is called after each step. The
    same seed gives the same weights on one machine with one number of threads. Raises `Diverged` on a non-finite loss.
    """
    rng = torch.Generator().manual_seed(seed)
    model = _build(objective, architecture, seed).to(device)
    batch = min(int(batch or model.defaults["batch"]), len(split))
    steps = max(1, round(epochs * (len(split) // batch)))
    lr = lr or model.defaults["lr"]
    optimiser = _optimiser(model, lr)
    batches = _batches(split, batch, rng)
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * schedule(step, steps)
        images = stage(next(batches).to(device), INPUT_SIZE)
        with _precision(device):
            loss = model.loss(images, rng)
        if not math.isfinite(value := loss.item()):
            raise Diverged(f"{objective}: loss {value} at step {step + 1} of {steps}; lower the learning rate")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        model.after_step((step + 1) / steps)
        if progress is not None:
            progress(step + 1, steps, value)
    return model.encoder.cpu().eval()


def schedule(step: int, steps: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def _build(objective: str, architecture: str, seed: int) -> Objective:
    """The objective around the untrained network; its heads are drawn from the same seed."""
    encoder = untrained(architecture, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return OBJECTIVES[objective](encoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _optimiser(model: Objective, lr: float) -> torch.optim.Optimizer:
    """AdamW; biases, norms and tokens are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1 and p.shape[0] > 1], "weight_decay": model.defaults["weight_decay"]},
        {"params": [p for p in trained if p.ndim <= 1 or p.shape[0] == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, model.defaults.get("beta2", 0.999)), foreach=True)


def _batches(split: Split, batch: int, rng: torch.Generator):
    """Endless shuffled batches of uint8 images; the last, smaller one of an epoch is dropped."""
    while True:
        order = torch.randperm(len(split), generator=rng)
        for indices in order[: len(order) - len(order) % batch].split(batch):
            yield split.images[indices]


def _precision(device: str):
    return torch.autocast("cuda", torch.bfloat16) if device.startswith("cuda") else contextlib.nullcontext()
