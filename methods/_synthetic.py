"""What the methods that optimise images share: where the images start, and which views of them a step sees."""

from typing import Literal

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData, stage
from ..core.errors import UserError
from ..core.images import Pixels, Pyramid, initial_images
from ..core.run import Run
from ..core.views import CENTRE, View
from .centroids import nearest_to_mean
from .kmeans import KMeans, nearest_to_clusters

Parametrisation = Literal["pyramid", "pixels"]
Init = Literal["noise", "centroid"]


def refuse_growth_from_images(init: Init, grow_every: int) -> None:
    """Raise `UserError` for a pyramid that would both start from real images and grow from one pixel."""
    if init != "noise" and grow_every:
        raise UserError(f"init={init} starts with all pyramid levels: give grow_every=0, or init=noise")


def starting_images(
    backbone: Backbone,
    data: ImageData,
    ipc: int,
    run: Run,
    *,
    init: Init,
    grow_every: int = 0,
    kind: Parametrisation = "pyramid",
    decorrelate: bool = True,
) -> Pixels | Pyramid:
    """`ipc` images per class, class by class, on the run's device.

    `noise`: random; a pyramid that grows (`grow_every`) starts with one pixel. `centroid`: real images, those that `kmeans`
    picks, which at IPC 1 are those of `centroids`; a class with fewer images than `ipc` gives some twice.
    """
    size, generator = backbone.spec.stage_size, run.generator("initial images")
    n = ipc * data.num_classes
    start = initial_images(kind, n, size, generator, decorrelate=decorrelate, growing=grow_every > 0)
    if init == "centroid":
        z = run.bank.features(backbone, data, "train")[0]
        chosen = torch.cat([nearest_in_class(z, data.train.labels == c, ipc) for c in range(data.num_classes)])
        start.start_from(stage(data.train.images[chosen], size), generator)
    return start.to(run.device)


def nearest_in_class(z: Tensor, members: Tensor, ipc: int) -> Tensor:
    """Indices `(ipc,)` of the rows of z `(n, d)` that are `members (n,)` and nearest to the centres of `ipc` clusters of them.

    One cluster has the mean as its centre. Where there are not more members than clusters they come nearest to the mean first,
    and over again.
    """
    indices = members.nonzero().flatten()
    if 1 < ipc < len(indices):
        return indices[nearest_to_clusters(z[indices], ipc, KMeans.restarts)]
    order = indices[nearest_to_mean(z[indices], ipc)]
    return order.repeat(-(-ipc // len(order)))[:ipc]


def views_of(view: View, copies: int) -> list[View]:
    """The views of each synthetic image in one step: `copies` of a random one, one that is always the same."""
    return [view] * copies if view.random else [CENTRE]
