"""Real batches: balanced draws ignore class sizes, uniform draws follow them, live ones pass through the data in epochs."""

import pytest
import torch

from ddbench.core.real import LiveBatches, RealBatches, resident
from ddbench.core.views import View


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


@pytest.mark.parametrize(("count", "moved"), [(2, True), (3, False)])
def test_features_go_to_a_gpu_only_where_they_fit_together(count, moved, monkeypatch):
    """Tensors of 100 bytes beside 1,000 free ones, of which a quarter is theirs."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self + 1)
    found = resident([torch.zeros(25)] * count, torch.device("cuda"))
    assert [bool(each.any()) for each in found] == [moved] * count


def test_live_batches_are_shuffled_epochs_without_the_remainder(backbone, data, run):
    """48 train images in batches of 20: two batches, then a new epoch; no image twice within an epoch."""
    live = LiveBatches(backbone, data.train, View(), 20, run)
    epochs = [torch.cat([live.draw(step)[0] for step in (2 * e, 2 * e + 1)]) for e in range(2)]
    for epoch in epochs:
        assert len({tuple(row.tolist()) for row in epoch}) == 40
    assert not torch.equal(*epochs)


def test_a_live_batch_is_at_most_the_data(backbone, data, run):
    z, y = LiveBatches(backbone, data.train, View.parse("flip+crop+noise"), 1000, run).draw(0)
    assert len(z) == len(y) == len(data.train)
