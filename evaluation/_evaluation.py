"""What protocols say of a set beside its accuracy: recall by class, accuracy by group, and what the set itself lacks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.data import ImageData
from ..core.method import Evaluation
from ..core.sets import DistilledSet

_NAMED = 5  # classes that a note names


def judged(top1: Sequence[float], hits: Tensor, data: ImageData, dset: DistilledSet, **details: float) -> Evaluation:
    """The evaluation with this accuracy per probe seed, mean recall beside it, and groups where the data has them.

    `hits (seeds, n)` says which test images were classified correctly; `dset` is the set, of which the notes tell.
    """
    found = {**details, "mean_recall": mean_recall(hits, data.test.labels), **group_details(hits, data)}
    return Evaluation(tuple(top1), found, notes=tuple(balance_notes(dset, data)))


def mean_recall(hits: Tensor, labels: Tensor) -> float:
    """Mean over classes, in percent, of the share of their images that was classified correctly (balanced accuracy).

    `hits (seeds, n)`, averaged over seeds too; classes without an image among labels `(n,)` do not count.
    """
    counts = labels.bincount()
    correct = torch.zeros(len(hits), len(counts), dtype=torch.float64).index_add(1, labels, hits.double())
    present = counts > 0
    return float(100 * (correct[:, present] / counts[present]).mean())


def balance_notes(dset: DistilledSet, data: ImageData) -> list[str]:
    """What a number on this set has to carry: classes of the data that it lacks, unequal numbers of images per class.

    Of the whole train split, and of sets whose labels came along unread, neither is worth a word.
    """
    if not isinstance(dset.images, Tensor) or dset.labels_of is not None or not len(dset):
        return []
    notes = []
    if lacking := dset.lacks(data.num_classes):
        names = ", ".join(data.class_names[c] for c in lacking[:_NAMED]) + (", ..." if len(lacking) > _NAMED else "")
        notes.append(f"the set has no image of {len(lacking)} of {data.num_classes} classes: {names}")
    if dset.labels is not None:
        counts = dset.labels.bincount()
        counts = counts[counts > 0]
        if counts.min() < counts.max():
            notes.append(f"the set has between {int(counts.min())} and {int(counts.max())} images per class")
    return notes


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
