"""Many linear heads trained at once on shared or separate features: one batched Adam instead of one loop per seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..core.errors import Diverged
from ..core.ridge import class_rows
from ..core.run import Progress, silent
from ..core.transfer import to_device

HEAD_STD = 0.01  # weight initialisation of the released LGM probe; its bias starts at 0

FeaturesAt = Callable[[int, Tensor], Tensor]  # epoch, indices (seeds, batch) -> features (seeds, batch, d)


@dataclass(frozen=True)
class ProbeRecipe:
    """Training of a linear probe: Adam at `lr`, cosine to 0 over `epochs` stepped per epoch, batches of `batch`."""

    lr: float
    epochs: int
    batch: int


def new_heads(
    dim: int, num_classes: int, seeds: list[torch.Generator]
) -> tuple[Float[Tensor, "s {num_classes} {dim}"], Float[Tensor, "s {num_classes}"]]:
    """Weights `(s, k, d)` ~ N(0, 0.01^2) and biases `(s, k)` = 0, each seed from its own stream."""
    weight = torch.stack([torch.randn(num_classes, dim, generator=g) * HEAD_STD for g in seeds])
    return weight, torch.zeros(len(seeds), num_classes)


def train_heads(
    heads: tuple[Float[Tensor, "s k d"], Float[Tensor, "s k"]],
    features_at: FeaturesAt,
    targets: Float[Tensor, "n k"] | Int[Tensor, " n"],
    recipe: ProbeRecipe,
    orders: list[torch.Generator],
    progress: Progress = silent,
) -> tuple[Float[Tensor, "s k d"], Float[Tensor, "s k"]]:
    """Train s heads `(s, k, d)`, `(s, k)` by cross-entropy; each seed shuffles with its own stream.

    Targets are class probabilities `(n, k)` or labels `(n,)`.

    Adam acts elementwise and the losses are summed over seeds, so every head takes the steps it would take alone.
    """
    weight, bias = (tensor.clone().requires_grad_() for tensor in heads)
    adam = torch.optim.Adam([weight, bias], lr=recipe.lr)
    n, step = len(targets), 0
    steps = recipe.epochs * -(-n // recipe.batch)
    for epoch in range(recipe.epochs):
        for group in adam.param_groups:
            group["lr"] = recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
        order = torch.stack([torch.randperm(n, generator=g) for g in orders])
        for indices in order.split(recipe.batch, dim=1):
            logits = torch.einsum("sbd,skd->sbk", features_at(epoch, indices), weight) + bias[:, None]
            wanted = class_rows(targets, to_device(indices, targets.device), logits.shape[-1])
            loss = -(F.log_softmax(logits, dim=-1) * wanted).sum(-1).mean(1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            progress(step := step + 1, steps, None)
    return all_finite((weight.detach(), bias.detach()), "linear probe")


def all_finite(trained: tuple[Tensor, Tensor], what: str) -> tuple[Tensor, Tensor]:
    """Weights and biases as they are. Raises `Diverged` where one is NaN or infinite."""
    if not all(each.isfinite().all() for each in trained):
        raise Diverged(f"the weights of the {what} are not finite: features are not finite, or lr is too high")
    return trained


def head_hits(
    heads: tuple[Float[Tensor, "s k d"], Float[Tensor, "s k"]],
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    tops: tuple[int, ...],
) -> Bool[Tensor, "tops s n"]:
    """For each k of `tops`, whether the label is among the k highest outputs: bool `(len(tops), s, n)` for s heads on
    features `(n, d)`, chunk by chunk."""
    weight, bias = heads
    hits = []
    for z, y in zip(features.split(8192), labels.split(8192), strict=True):
        logits = torch.einsum("nd,skd->snk", z.to(weight), weight) + bias[:, None]
        best = logits.topk(min(max(tops), logits.shape[-1]), dim=-1).indices == y.to(weight.device)[None, :, None]
        hits.append(torch.stack([best[..., :top].any(-1) for top in tops]).cpu())
    return torch.cat(hits, dim=-1)


def accuracies(hits: Bool[Tensor, "s n"]) -> list[float]:
    """Accuracy in percent of each row of `hits (s, n)`."""
    return (100 * hits.sum(1).float() / hits.shape[1]).tolist()
