"""What the objectives have in common."""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ddbench.backbones.mini.networks import CIFAR100_MEAN, CIFAR100_STD


class Objective(nn.Module):
    """An encoder with the heads that one objective needs.

    Subclasses set `defaults` (hyper-parameters that the training loop reads and the card records) and `loss`; `changes`
    are a recipe's own values for some of them.
    """

    defaults: ClassVar[dict[str, float]]

    def __init__(self, encoder: nn.Module, changes: Mapping[str, float] | None = None):
        super().__init__()
        self.encoder = encoder
        self.dim: int = encoder.num_features  # type: ignore[assignment]
        self.values = {**self.defaults, **(changes or {})}
        self.decaying = False  # whether the flat part of the schedule is over; set by the loop

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar loss of images `(n, 3, 32, 32)` in [0, 1]; all random numbers come from the CPU `generator`."""
        raise NotImplementedError

    def step_loss(self, images: Tensor, indices: Tensor, generator: torch.Generator) -> Tensor:
        """`loss`, for objectives that also know something about the images at `indices (n,)` of the train split."""
        return self.loss(images, generator)

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the finished share of training in (0, 1]."""


def normalise(images: Tensor) -> Tensor:
    """[0, 1] -> zero mean, unit variance over CIFAR-100."""
    mean, std = (torch.tensor(values).to(images).view(1, 3, 1, 1) for values in (CIFAR100_MEAN, CIFAR100_STD))
    return (images - mean) / std


def projector(*widths: int) -> nn.Sequential:
    """Linear layers of `widths` with batch norm and ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
