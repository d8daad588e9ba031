"""NAME: synthetic images whose class means equal the real class means in feature space.

L = sum over classes of || mean(phi(x_syn of c)) - mean(phi(x_real of c)) ||^2, the objective of Distribution Matching
(Zhao and Bilen, WACV 2023, section 3) with one frozen backbone in place of random ones. Put your own loss in its place.
"""

from dataclasses import dataclass

import torch

from ddbench.plugins import (
    CENTRE,
    Count,
    DistilledSet,
    FeatureEngine,
    Method,
    Positive,
    Pyramid,
    Schedule,
    class_labels,
    optimise,
    register_method,
)  # fmt: skip


def class_means(z, labels, num_classes):
    """Means `(k, d)` of features z `(n, d)` by label `(n,)`."""
    sums = torch.zeros(num_classes, z.shape[1]).to(z).index_add(0, labels, z)
    return sums / labels.bincount(minlength=num_classes).unsqueeze(1)


@register_method("NAME")
@dataclass(frozen=True)
class Skeleton(Method):
    """Synthetic images whose class means match the real ones in feature space."""

    steps: Count = 300
    lr: Positive = 0.05  # Adam, on the image parameters

    def distill(self, backbone, data, ipc, *, run):
        labels = class_labels(data.num_classes, ipc).to(run.device)
        real = run.bank.features(backbone, data, "train")[0]  # computed once, shared with every other method
        target = class_means(real, data.train.labels, data.num_classes).to(run.device)
        size = backbone.spec.stage_size
        images = Pyramid(len(labels), size, run.generator("initial images"), start=size).to(run.device)
        engine = FeatureEngine(backbone, [CENTRE], run.chunk_size)

        def objective(z):  # features (views, n, d) of all synthetic images -> scalar
            return (class_means(z[0], labels, data.num_classes) - target).square().sum()

        found = optimise(images, engine, lambda step: objective, Schedule(self.steps, self.lr), run)
        return DistilledSet(found, labels.cpu(), data.class_names)
