"""NAME: coloured discs and squares, drawn. Read your own images, and their labels, in their place."""

from dataclasses import dataclass

import numpy as np
import torch

from ddbench.plugins import ArrayImages, Count, DataSource, ImageData, Natural, Split, array_fingerprint, register_dataset

CLASSES = ("disc", "square")


def drawn(count, size, rng):
    """`count` images of each class, uint8 `(n, 3, size, size)`, and their labels `(n,)`."""
    y, x = np.mgrid[:size, :size]
    images, labels = [], []
    for _ in range(count):
        for label in range(len(CLASSES)):
            (cy, cx), radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.15, 0.3) * size
            away = (np.hypot(y - cy, x - cx), np.maximum(abs(y - cy), abs(x - cx)))[label]
            colour, ground = rng.integers(0, 256, (2, 3, 1, 1))
            images.append(np.where(away < radius, colour, ground).astype(np.uint8))
            labels.append(label)
    return np.stack(images), torch.tensor(labels)


@register_dataset("NAME")
@dataclass(frozen=True)
class Skeleton(DataSource):
    """Coloured discs and squares: images drawn from a seed, two classes."""

    per_class: Count = 50  # train images; test has half as many
    size: Count = 32  # pixels
    seed: Natural = 0

    def load(self):
        rng = np.random.default_rng(self.seed)
        splits = []
        for count in (self.per_class, max(1, self.per_class // 2)):
            images, labels = drawn(count, self.size, rng)
            splits.append(Split(ArrayImages(images), labels))  # with groups=..., worst-group accuracy is reported too
        return ImageData("NAME", *splits, class_names=CLASSES, fingerprint=array_fingerprint(*splits))
