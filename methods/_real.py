"""What the methods that pick real images share: class-wise selection on features of the train split."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.backbone import Backbone
from ..core.data import ImageData
from ..core.run import Run
from ..core.sets import DistilledSet, real_set

Pick = Callable[[Tensor, int], Tensor]  # features (n, d) of one class, count -> indices (count,) into them


def pick_per_class(backbone: Backbone, data: ImageData, ipc: int, run: Run, pick: Pick) -> DistilledSet:
    """The set of `ipc` train images per class that `pick` chooses on their centre-crop features."""
    features = run.bank.features(backbone, data, "train")[0]
    chosen = []
    for c in range(data.num_classes):
        members = (data.train.labels == c).nonzero().flatten()
        chosen.append(members[pick(features[members], ipc)])
        run.progress(c + 1, data.num_classes, None)
    return real_set(data, torch.cat(chosen))
