"""A step as one would first write it, on the whole batch with autograd: what the feature engine is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddbench.core.backbone import Backbone
from ddbench.core.engine import Objective
from ddbench.core.views import View, apply, sample


@dataclass
class WholeBatch:
    """Takes the place of `core.engine.FeatureEngine`: render, all views, backbone, objective, `backward`."""

    backbone: Backbone
    views: Sequence[View]
    chunk: int = 256  # of the final rendering alone

    @property
    def chunks(self) -> list[int]:
        return []

    in_use = chunks

    def fit(self, images: nn.Module) -> None:
        pass

    def use(self, chunks: Sequence[int]) -> None:
        pass

    def step(self, images: nn.Module, objective: Objective, generator: torch.Generator) -> Tensor:
        spec, rendered = self.backbone.spec, images(slice(None))
        drawn = [(view, sample(view, len(rendered), generator, spec.stage_size, spec.input_size)) for view in self.views]
        noise = torch.Generator(rendered.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        pixels = torch.cat([apply(view, rendered, params, spec.input_size, noise) for view, params in drawn])
        loss = objective(self.backbone(pixels).view(len(drawn), len(rendered), -1))
        loss.backward()
        return loss.detach()
