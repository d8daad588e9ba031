"""Real batches: balanced draws ignore class sizes, uniform draws follow them."""

import torch

from ddbench.core.real import RealBatches


def batches(balanced):
    labels = torch.tensor([0] * 90 + [2] * 10)
    features = torch.stack([torch.arange(100.0), torch.arange(100.0) + 1000])[..., None]
    return RealBatches.of(features, labels, 4000, balanced, torch.device("cpu"))


def test_features_and_labels_stay_together_over_all_copies():
    z, y = batches(True).draw(torch.Generator().manual_seed(0))
    assert z.shape == (4000, 1)
    assert ((z.flatten() % 1000 >= 90) == (y == 2)).all()
    assert 0.45 < (z >= 1000).float().mean() < 0.55


def test_balanced_draws_classes_alike_and_every_image_of_a_class():
    z, y = batches(True).draw(torch.Generator().manual_seed(0))
    assert 0.45 < (y == 2).float().mean() < 0.55
    assert len((z.flatten() % 1000).unique()) == 100


def test_uniform_follows_the_class_sizes():
    _, y = batches(False).draw(torch.Generator().manual_seed(0))
    assert 0.08 < (y == 2).float().mean() < 0.12
