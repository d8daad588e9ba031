"""Baselines that pick real images: each selection rule against a brute-force version."""

import itertools

import pytest
import torch

from ddbench.core.method import METHODS
from ddbench.methods.centroids import nearest_to_mean
from ddbench.methods.herding import herd
from ddbench.methods.kmeans import nearest_to_centres, nearest_to_clusters

PICKERS = ["random", "centroids", "herding", "kmeans"]


def features(n=7, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def test_centroid_is_the_row_nearest_to_the_mean():
    z = features()
    distances = [float((row - z.mean(0)).norm()) for row in z]
    assert nearest_to_mean(z, 7).tolist() == sorted(range(7), key=distances.__getitem__)


def test_herding_is_greedy_on_the_running_mean():
    z = features()
    chosen = []
    for _ in range(4):
        rest = [i for i in range(7) if i not in chosen]
        chosen.append(min(rest, key=lambda i: float((z[[*chosen, i]].mean(0) - z.mean(0)).norm())))
    assert herd(z, 4).tolist() == chosen


def test_centres_get_distinct_nearest_rows():
    z = torch.tensor([[0.0], [1.0], [10.0]])
    assert nearest_to_centres(z, torch.tensor([[0.1], [0.2], [9.0]])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [3, 5, 7])
def test_clusters_of_equal_images_give_distinct_rows(count):
    """Without a warning, which is an error here."""
    z = torch.tensor([[0.0], [0.0], [0.0], [5.0], [5.0], [9.0], [9.0]])
    assert len(set(nearest_to_clusters(z, count, restarts=10).tolist())) == count


def test_kmeans_with_one_cluster_is_the_centroid(backbone, data, run):
    one, centroid = (METHODS.create(name).distill(backbone, data, 1, run=run) for name in ("kmeans", "centroids"))
    assert torch.equal(one.indices, centroid.indices)


@pytest.mark.parametrize("name", PICKERS)
def test_sets_hold_distinct_train_images_of_the_right_class(name, backbone, data, run):
    dset = METHODS.create(name).distill(backbone, data, 4, run=run)
    assert len(dset.indices.unique()) == 12
    assert torch.equal(dset.labels, data.train.labels[dset.indices])
    assert dset.labels.bincount().tolist() == [4, 4, 4]
    assert torch.equal(dset.images, data.train.images[dset.indices] / 255)


@pytest.mark.parametrize("name", PICKERS)
def test_more_images_than_the_smallest_class_is_refused_with_a_reason(name, backbone, data):
    method = METHODS.create(name)
    assert method.supports(backbone.spec, data, 12) is None
    assert "13 real images per class, but the smallest class of tiny has 12" in method.supports(backbone.spec, data, 13)


def test_synthetic_images_may_outnumber_a_class(backbone, data):
    assert METHODS.create("clpdd").supports(backbone.spec, data, 1000) is None


def test_full_refers_to_every_train_image_without_a_copy(data, run):
    dset = METHODS.create("full").distill(None, data, 1, run=run)
    assert dset.indices.tolist() == list(range(len(data.train)))
    assert not isinstance(dset.images, torch.Tensor)
    assert torch.equal(dset.batch(torch.tensor([5])), data.train.images[torch.tensor([5])] / 255)


def test_random_seeds_give_different_images(data, run):
    import dataclasses

    sets = [METHODS.create("random").distill(None, data, 3, run=dataclasses.replace(run, seed=s)) for s in range(3)]
    assert all(not torch.equal(a.indices, b.indices) for a, b in itertools.combinations(sets, 2))
