"""Features of real images under one view each, on this device and shared out over the processes of a cell."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import Backbone
from .data import stage
from .parallel import gather, shard
from .transfer import to_device
from .views import View, ViewParams, apply, skip_noise


@torch.no_grad()
def view_features(backbone: Backbone, images: Tensor, view: View, params: ViewParams, noise: torch.Generator) -> Tensor:
    """Features `(k, d)` of one view of each of k real images, shared out over all processes.

    `images` are those of this process, uint8 at `own_part` of the k; `params` holds all k views, and `noise` (on the
    backbone's device) draws for all of them in every process.
    """
    spec, count = backbone.spec, len(params.theta)
    own = shard(count)
    device = backbone.mean.device
    staged = stage(to_device(images, device), spec.stage_size)
    mine = ViewParams(to_device(params.theta[own], device), to_device(params.noisy[own], device))
    skip_noise(view, noise, own.start, spec.input_size)
    if len(staged):
        features = backbone(apply(view, staged, mine, spec.input_size, noise)).float()
    else:  # more processes than images
        features = torch.empty(0, spec.dim, device=device)
    skip_noise(view, noise, count - own.stop, spec.input_size)
    return gather(features, count)


def own_part(chunks: Sequence[Tensor]) -> list[Tensor]:
    """This process's shard of each chunk of indices."""
    return [indices[shard(len(indices))] for indices in chunks]
