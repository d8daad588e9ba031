"""Worst-group accuracy: by hand, and in every protocol that classifies."""

import dataclasses

import pytest
import torch

from ddbench.core.method import METHODS, PROTOCOLS
from ddbench.evaluation._groups import group_details

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
