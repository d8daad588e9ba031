"""Features of views of images: in passes that memory holds, and shared out over the processes of a cell."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import Backbone
from .data import stage
from .parallel import gather, shard
from .passes import PassSize
from .transfer import to_device
from .views import View, ViewParams, apply, skip_noise


@torch.no_grad()
def encode(
    backbone: Backbone, images: Tensor, view: View, params: ViewParams, noise: torch.Generator, size: PassSize
) -> Tensor:
    """Features `(k, d)` of k views of n staged images `(n, 3, R, R)`, all on the device of `noise`: k = n, or k a multiple of n
    for copies, all images of one copy after those of another. `params` and `noise` have the random numbers, view by view."""
    k, n, start = len(params.theta), len(images), noise.get_state()

    def attempt(views: int) -> Tensor:
        noise.set_state(start)
        found = []
        for first in range(0, k, views):
            rows = slice(first, min(first + views, k))
            pixels = images[rows] if k == n else images[torch.arange(first, rows.stop, device=images.device) % n]
            found.append(backbone(apply(view, pixels, params[rows], backbone.spec.input_size, noise)).float())
        return torch.cat(found)

    return size.fitting(attempt)


@torch.no_grad()
def features_of(backbone: Backbone, pixels: Tensor, size: PassSize) -> Tensor:
    """Features `(k, d)` of inputs `(k, 3, s, s)`, on the backbone's device."""
    return size.fitting(lambda views: torch.cat([backbone(part).float() for part in pixels.split(views)]))


@torch.no_grad()
def view_features(
    backbone: Backbone, images: Tensor, view: View, params: ViewParams, noise: torch.Generator, size: PassSize
) -> Tensor:
    """Features `(k, d)` of one view of each of k real images, shared out over all processes.

    `images` are those of this process, uint8 at `own_part` of the k; `params` holds all k views, and `noise` (on the
    backbone's device) draws for all of them in every process.
    """
    spec, count = backbone.spec, len(params.theta)
    own = shard(count)
    device = backbone.mean.device
    staged = stage(to_device(images, device), spec.stage_size)
    skip_noise(view, noise, own.start, spec.input_size)
    if len(staged):
        features = encode(backbone, staged, view, params[own].to(device), noise, size)
    else:  # more processes than images
        features = torch.empty(0, spec.dim, device=device)
    skip_noise(view, noise, count - own.stop, spec.input_size)
    return gather(features, count)


def own_part(chunks: Sequence[Tensor]) -> list[Tensor]:
    """This process's shard of each chunk of indices."""
    return [indices[shard(len(indices))] for indices in chunks]
