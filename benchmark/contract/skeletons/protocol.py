"""NAME: the nearest class mean in feature space. Put your own way to judge a set in its place."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ddbench.plugins import Protocol, judged, no_class_targets, register_protocol, set_features


@register_protocol("NAME")
@dataclass(frozen=True)
class Skeleton(Protocol):
    """Nearest class mean of centre-crop features, by cosine similarity (Mensink et al., TPAMI 2013)."""

    version: ClassVar[int] = 1  # raise it where older numbers must not stand in one table with newer ones

    centred: bool = False  # subtract the mean of the set's features first

    def supports(self, dset):
        return no_class_targets(dset) or (None if dset.labels is not None else "class means need labels")

    def evaluate(self, backbone, data, dset, *, run):
        z = set_features(backbone, data, dset, run)[0]  # the bank's, where the set is the whole train split (`full`)
        test = run.bank.features(backbone, data, "test")[0]
        shift = z.mean(0) if self.centred else torch.zeros(z.shape[1])
        sums = torch.zeros(data.num_classes, z.shape[1]).index_add(0, dset.labels, torch.as_tensor(z) - shift)
        means = sums / dset.labels.bincount(minlength=data.num_classes).clamp_min(1).unsqueeze(1)
        similar = torch.nn.functional.normalize(torch.as_tensor(test) - shift) @ torch.nn.functional.normalize(means).T
        hits = similar.argmax(1) == data.test.labels
        return judged([100 * float(hits.double().mean())], hits[None], data, dset)  # recall and groups beside it
