"""The embedded default: scikit-learn's handwritten digits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.data import DATASETS, ArrayImages, DataSource, ImageData, Split, array_fingerprint, stage, stratified_indices
from ._notes import described

_SIDE = 32
_SPLIT_SEED = 0


@DATASETS.register("digits")
@dataclass(frozen=True)
class Digits(DataSource):
    """Scikit-learn's handwritten digits: 1,797 real images of 10 classes, 8x8 shown at 32x32, 80/20 stratified split."""

    def load(self) -> ImageData:
        from sklearn.datasets import load_digits

        raw: Any = load_digits()
        grey = torch.from_numpy(raw.images.astype(np.float32) / 16).unsqueeze(1)
        images = (stage(grey.expand(-1, 3, -1, -1), _SIDE) * 255).round().byte().numpy()
        labels = torch.from_numpy(raw.target.astype(np.int64))
        train, test = (
            Split(ArrayImages(images[part.numpy()]), labels[part]) for part in stratified_indices(labels, 0.2, _SPLIT_SEED)
        )
        fingerprint = array_fingerprint(train, test)
        return described(ImageData("digits", train, test, tuple("0123456789"), fingerprint, mirror=False))
