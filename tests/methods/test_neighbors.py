"""Neighbours: nearest by cosine within the class, of a set distilled now or of one in a folder."""

import dataclasses

import pytest
import torch

from ddbench.core.errors import Unsupported, UserError
from ddbench.core.method import METHODS
from ddbench.core.sets import real_set
from ddbench.methods.neighbors import Neighbors, nearest_of_class


def test_nearest_is_by_cosine_and_of_the_same_class():
    z_real = torch.tensor([[1.0, 0.0], [10.0, 10.0], [0.0, 1.0], [1.0, 0.1]])
    y_real = torch.tensor([0, 0, 0, 1])
    z, labels = torch.tensor([[1.0, 0.9], [1.0, 0.1], [0.1, 9.0]]), torch.tensor([0, 0, 1])
    assert nearest_of_class(z, labels, z_real, y_real).tolist() == [1, 0, 3]


def test_the_neighbours_of_real_images_are_themselves(backbone, data, run, tmp_path):
    chosen = torch.tensor([3, 30, 40])
    real_set(data, chosen).save(tmp_path / "set")
    found = Neighbors(folder=str(tmp_path / "set")).distill(backbone, data, 1, run=run)
    assert found.indices.tolist() == chosen.tolist()


def test_a_method_is_distilled_first_with_the_same_seed(backbone, data, run):
    """Centroids are real images, so their neighbours are the centroids."""
    wanted = METHODS.create("centroids").distill(backbone, data, 2, run=run)
    found = Neighbors(of="centroids").distill(backbone, data, 2, run=run)
    assert found.indices.tolist() == wanted.indices.tolist()
    random = [Neighbors(of="random").distill(backbone, data, 1, run=dataclasses.replace(run, seed=s)) for s in (0, 1)]
    assert random[0].indices.tolist() != random[1].indices.tolist()


def test_a_set_that_is_there_is_taken(backbone, data, run):
    """The harness is asked by the method with its parameters, for the backbone, data, IPC and seed of this run."""
    there = real_set(data, torch.tensor([3, 30, 40]))
    asked = []
    lent = dataclasses.replace(run, stored_set=lambda method: asked.append(method) or there)
    assert Neighbors(of="lgm[copies=2]").distill(backbone, data, 1, run=lent).indices.tolist() == [3, 30, 40]
    assert asked == [METHODS.create("lgm[copies=2]")]


def test_what_the_first_method_cannot_do_is_unsupported(backbone, data, run):
    with pytest.raises(Unsupported, match="smallest class"):
        Neighbors(of="centroids").distill(backbone, data, 1000, run=run)


def test_a_set_of_other_classes_is_unsupported(backbone, data, run, tmp_path):
    dset = dataclasses.replace(real_set(data, torch.arange(3)), class_names=("x", "y", "z"))
    dset.save(tmp_path / "set")
    with pytest.raises(Unsupported, match="classes of tiny"):
        Neighbors(folder=str(tmp_path / "set")).distill(backbone, data, 1, run=run)


def test_features_of_the_set_that_are_not_finite_are_one_line(backbone, data, run, tmp_path):
    real_set(data, torch.arange(3)).save(tmp_path / "set")
    run.bank.features(backbone, data, "train")
    backbone.network[-1] = torch.nn.Sequential(backbone.network[-1], Overflow())
    with pytest.raises(UserError, match=r"not finite for 1 of 3 images of the set \(indices from 0: 1\)"):
        Neighbors(folder=str(tmp_path / "set")).distill(backbone, data, 1, run=run)


class Overflow(torch.nn.Module):
    def forward(self, z):
        z = z.clone()
        z[1, 0] = float("inf")
        return z


@pytest.mark.parametrize(
    ("spec", "message"), [("neighbors[of=lgn]", "did you mean"), ("neighbors[folder=/nowhere]", "not a distilled set")]
)
def test_bad_input_is_refused_before_anything_runs(spec, message):
    with pytest.raises(UserError, match=message):
        METHODS.create(spec)


def test_a_set_of_references_is_read_with_its_data(backbone, data, run, tmp_path):
    METHODS.create("full").distill(None, data, 1, run=run).save(tmp_path / "set")
    found = METHODS.create(f"neighbors[folder={tmp_path}/set]").distill(backbone, data, 1, run=run)
    assert found.indices.tolist() == list(range(len(data.train)))
