"""DINO: a student matches the centred, sharpened output of its own moving average (Caron et al., ICCV 2021, section 3.1)."""

import copy
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .augment import Colour, augment
from .objectives import Objective, normalise, projector


class DINO(Objective):
    """Self-distillation with multi-crop: two global crops of 24 px, two local ones of 16 px.

    Smaller than the paper in crops (2 + 10), outputs (65536) and moving average (0.996, for runs 100 times longer). The
    head has batch norm, which the paper leaves out for ViTs (section 3.2); here it is for a ResNet.
    """

    defaults: ClassVar[dict[str, float]] = {
        "batch": 128,
        "lr": 2e-3,
        "weight_decay": 0.04,
        "outputs": 512,
        "student_temperature": 0.1,
        "teacher_temperature": 0.05,
        "momentum": 0.9,  # rises to 1 by a cosine
        "global_crop_min": 0.25,
        "local_crop_min": 0.1,
        "global_size": 24,
        "local_size": 16,
    }

    def __init__(self, encoder: nn.Module, changes=None):
        super().__init__(encoder, changes)
        self.head = DINOHead(self.dim, int(self.values["outputs"]))
        self.teacher = copy.deepcopy(nn.Sequential(self.encoder, self.head)).requires_grad_(False)

    def loss(self, images: Tensor, generator: torch.Generator) -> Tensor:
        d = self.values
        large, small, split = int(d["global_size"]), int(d["local_size"]), d["global_crop_min"]
        wide = torch.cat([augment(images, (split, 1.0), large, generator, Colour()) for _ in range(2)])
        narrow = torch.cat([augment(images, (d["local_crop_min"], split), small, generator, Colour()) for _ in range(2)])
        with torch.no_grad():
            target = self.teacher(normalise(wide)).float()
        student = torch.cat([self.head(self.encoder(normalise(crops))) for crops in (wide, narrow)]).float()
        teacher = [sinkhorn(crop, d["teacher_temperature"]) for crop in target.chunk(2)]
        return dino_loss(student.chunk(4), teacher, d["student_temperature"])

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        momentum = 1 - (1 - self.values["momentum"]) * (1 + math.cos(math.pi * progress)) / 2
        student = [*self.encoder.parameters(), *self.head.parameters()]
        for old, new in zip(self.teacher.parameters(), student, strict=True):
            old.lerp_(new, 1 - momentum)


def dino_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean cross-entropy between every teacher crop (probabilities) and every other student crop (outputs), each `(n, k)`."""
    log_p = [F.log_softmax(output / temperature, dim=1) for output in student]
    pairs = [(t, s) for t in range(len(teacher)) for s in range(len(student)) if s != t]
    return torch.stack([-(teacher[t] * log_p[s]).sum(1).mean() for t, s in pairs]).mean()


def sinkhorn(outputs: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Probabilities `(n, k)` that spread a batch of teacher outputs evenly over the k prototypes (Caron et al. 2020, 3.1).

    The paper's ablation has it beside the moving centre (table 7, column SK); in runs of a few epochs the centre
    lags behind and the outputs stay uniform.
    """
    p = ((outputs - outputs.max()) / temperature).exp()
    for _ in range(iterations):
        p = p / p.sum(0, keepdim=True).clamp_min(1e-12)
        p = p / p.sum(1, keepdim=True)
    return p


class DINOHead(nn.Module):
    """Three-layer MLP, an l2-normalised bottleneck of 64, then unit-norm prototypes (section 3.2)."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        self.mlp = projector(dim, 256, 256, 64)
        self.prototypes = nn.Parameter(torch.randn(outputs, 64))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.mlp(features), dim=1) @ F.normalize(self.prototypes, dim=1).T
