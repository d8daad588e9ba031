"""The embedded dataset never changes."""

import torch
from sklearn.datasets import load_digits

from ddbench.core.data import DATASETS

FINGERPRINT = "e88938f94fc902680005a4e306bc0266726e680b6704ee24528751c1287a8a06"


def test_digits_are_the_1797_images_of_scikit_learn():
    data = DATASETS.create("digits").load()
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.class_names == tuple("0123456789")
    together = torch.cat([data.train.labels, data.test.labels]).bincount()
    assert together.tolist() == torch.from_numpy(load_digits().target).bincount().tolist()
    assert (data.test.labels.bincount() / together - 0.2).abs().max() < 0.01


def test_images_are_grey_32_pixels_and_bright_where_the_digit_is():
    data = DATASETS.create("digits").load()
    images = data.train.images[torch.arange(50)]
    assert images.shape == (50, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:, 0], images[:, 2])
    assert images.max() > 240
    assert images.min() == 0


def test_fingerprint_is_pinned():
    """Records of all machines are comparable only if this stays; a change is a new dataset and needs a new name."""
    assert DATASETS.create("digits").load().fingerprint == FINGERPRINT
