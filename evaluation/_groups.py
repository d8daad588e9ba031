"""Accuracy by group of the test split: what a spurious correlation costs where the mean hides it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.data import ImageData
from ..core.method import Evaluation


def judged(top1: Sequence[float], hits: Tensor, data: ImageData, **details: float) -> Evaluation:
    """The evaluation with this accuracy per probe seed; with groups in its details where the data has them.

    `hits (seeds, n)` says which test images were classified correctly.
    """
    return Evaluation(tuple(top1), {**details, **group_details(hits, data)})


def group_details(hits: Tensor, data: ImageData) -> dict[str, float]:
    """Percentages, empty for data without groups; groups that have no test image do not count.

    - `worst_group`: accuracy of the worst group (Sagawa et al., ICLR 2020), taken per probe seed, then averaged
    - `majority`: accuracy of always answering the most frequent test class; a mean near it says nothing
    - `group NAME`: accuracy of each group, averaged over probe seeds
    """
    groups = data.test.groups
    if groups is None:
        return {}
    present = groups.unique().tolist()
    by_group = torch.stack([100 * hits[:, groups == group].double().mean(1) for group in present])
    names = [data.group_names[group] if data.group_names else str(group) for group in present]
    return {
        "worst_group": float(by_group.amin(0).mean()),
        "majority": 100 * int(data.test.labels.bincount().max()) / len(data.test),
        **{f"group {name}": float(accuracy) for name, accuracy in zip(names, by_group.mean(1), strict=True)},
    }
