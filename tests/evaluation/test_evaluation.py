"""Mean recall, notes on unequal sets and worst-group accuracy: by hand, and in every protocol that classifies."""

import dataclasses

import pytest
import torch

from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.core.sets import DistilledSet, real_set
from ddbench.evaluation._evaluation import balance_notes, group_details, mean_recall

QUICK = {"linear-probe": {"epochs": 2}, "lgm-probe": {"epochs": 2}, "ridge-probe": {}, "knn": {}}
NAMES = ("a on land", "a on water", "b on land", "b on water", "never seen")


def with_groups(data, names=NAMES):
    """Group 2 y + place with alternating places; class 2 is group 3 too."""
    place = torch.arange(len(data.test)) % 2
    groups = (2 * data.test.labels + place).clamp(max=3)
    return dataclasses.replace(data, test=dataclasses.replace(data.test, groups=groups), group_names=names)


def test_worst_group_is_taken_per_seed_then_averaged(data):
    """Two seeds that fail on different groups: the worst is 0 for both, though no group's mean is."""
    data = with_groups(data)
    groups = data.test.groups
    hits = torch.stack([groups != 0, groups != 1])
    found = group_details(hits, data)
    assert found["worst_group"] == 0
    assert found["group a on land"] == found["group a on water"] == 50
    assert found["group b on land"] == 100
    assert "group never seen" not in found


def test_majority_is_the_accuracy_of_a_constant_answer(data):
    found = group_details(torch.ones(1, len(data.test), dtype=torch.bool), with_groups(data))
    assert found["majority"] == pytest.approx(100 * 12 / 24)  # class 0 has twice as many images as the two others
    assert found["worst_group"] == 100


def test_groups_without_names_are_numbered(data):
    assert "group 3" in group_details(torch.ones(1, len(data.test), dtype=torch.bool), with_groups(data, ()))


@pytest.mark.parametrize("name", QUICK)
def test_every_protocol_reports_groups_where_the_data_has_them(name, backbone, data, run):
    protocol = dataclasses.replace(PROTOCOLS.create(name), **QUICK[name])
    dset = METHODS.create("random").distill(None, data, 2, run=run)
    plain, grouped = (protocol.evaluate(backbone, d, dset, run=run) for d in (data, with_groups(data)))
    assert plain.top1_per_seed == grouped.top1_per_seed
    assert "worst_group" not in plain.details
    sizes = with_groups(data).test.groups.bincount().tolist()
    mean = sum(n * grouped.details[f"group {g}"] for n, g in zip(sizes, NAMES, strict=False)) / len(data.test)
    assert mean == pytest.approx(grouped.top1, abs=1e-3)
    assert grouped.details["worst_group"] <= grouped.top1 + 1e-3
    assert {key: grouped.details[key] for key in plain.details} == plain.details


def test_mean_recall_is_the_mean_of_the_classes_by_a_loop():
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 4])
    hits = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    slow = [100 * float(hits[seed][labels == c].float().mean()) for seed in range(3) for c in (0, 2, 4)]
    assert mean_recall(hits, labels) == pytest.approx(sum(slow) / 9)


def test_a_constant_probe_on_a_test_split_of_one_class_has_low_recall():
    """95 of 100 images of one class: top-1 is 95 %, the mean of the recalls 50."""
    labels = torch.tensor([0] * 95 + [1] * 5)
    assert mean_recall((labels == 0)[None], labels) == 50


@pytest.mark.parametrize("name", QUICK)
def test_every_protocol_reports_mean_recall_beside_top1(name, backbone, data, run):
    """With equal classes they are one number; class 0 of the test split has twice as many images as the others."""
    protocol = dataclasses.replace(PROTOCOLS.create(name), **QUICK[name])
    dset = METHODS.create("random").distill(None, data, 2, run=run)
    found = protocol.evaluate(backbone, data, dset, run=run)
    equal = data.test.subset(torch.cat([(data.test.labels == c).nonzero().flatten()[:6] for c in range(3)]))
    balanced = protocol.evaluate(backbone, dataclasses.replace(data, test=equal, fingerprint="other"), dset, run=run)
    assert balanced.details["mean_recall"] == pytest.approx(balanced.top1, abs=1e-4)
    assert 0 <= found.details["mean_recall"] <= 100
    assert found.notes == ()


def test_a_set_that_lacks_a_class_or_has_unequal_numbers_is_judged_with_a_word(data):
    images = torch.rand(4, 3, 16, 16)
    lacking, unequal = (DistilledSet(images, torch.tensor(y), data.class_names) for y in ([0, 0, 2, 2], [0, 1, 1, 2]))
    assert balance_notes(lacking, data) == ["the set has no image of 1 of 3 classes: b"]
    assert balance_notes(unequal, data) == ["the set has between 1 and 2 images per class"]
    assert balance_notes(DistilledSet(images[:3], torch.arange(3), data.class_names), data) == []


def test_the_whole_train_split_and_labels_that_nobody_read_are_worth_no_word(backbone, data, run):
    """Class 0 of the train split has twice as many images as the others."""
    assert balance_notes(METHODS.create("full").distill(None, data, 1, run=run), data) == []
    taught = METHODS.create("teacher_random", size=8).distill(backbone, data, 2, run=run)
    assert balance_notes(taught, data) == []


def test_soft_labels_stand_for_the_classes_that_they_give_mass(data):
    targets = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    soft = DistilledSet(torch.rand(2, 3, 8, 8), None, data.class_names, targets, "class_probabilities")
    assert soft.lacks(3) == [2]
    assert balance_notes(soft, data)[0].startswith("the set has no image of 1 of 3 classes: c")
    assert real_set(data, torch.tensor([0, 1])).lacks(3) == [1, 2]
