"""Limits keep every class where lists are sorted by class, and the order of the file where they are not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ddbench.core.data import ArrayImages, Split
from ddbench.core.errors import UserError
from ddbench.datasets._limits import Listing, check_classes, first, first_of_classes

FILES = [Path(f"{c}{k}") for c in "abc" for k in range(3)]
LABELS = [c for c in range(3) for _ in range(3)]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [(3, ["a0", "b0", "c0"]), (4, ["a0", "a1", "b0", "c0"]), (8, ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1"])],
)
def test_files_are_taken_in_rounds_over_the_classes_in_the_order_of_the_list(limit, chosen):
    part = first_of_classes(Listing(FILES, LABELS, LABELS[::-1]), limit)
    assert [file.name for file in part.files] == chosen
    assert part.labels == ["abc".index(name[0]) for name in chosen]
    assert part.groups == [2 - label for label in part.labels]


@pytest.mark.parametrize("limit", [None, 9, 100])
def test_a_limit_that_is_no_limit_changes_nothing(limit):
    assert first_of_classes(Listing(FILES, LABELS), limit) == Listing(FILES, LABELS)


def test_uneven_classes_give_what_they_have():
    part = first_of_classes(Listing([Path("a0"), Path("a1"), Path("a2"), Path("b0")], [0, 0, 0, 1]), 3)
    assert [file.name for file in part.files] == ["a0", "a1", "b0"]


def test_first_images_of_an_array_with_their_labels_and_groups():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, 1)
    cut = first(Split(ArrayImages(images), torch.tensor([3, 2, 1, 0]), torch.tensor([0, 1, 0, 1])), 2)
    assert cut.labels.tolist() == [3, 2]
    assert cut.groups.tolist() == [0, 1]
    assert cut.images[torch.tensor([0, 1])][:, 0, 0, 0].tolist() == [0, 1]


def test_a_class_without_a_train_image_is_named():
    check_classes("set", torch.tensor([0, 1]), ["cat", "dog"])
    with pytest.raises(UserError, match="^set: class 'dog' has no train image; add some to it, or leave the class out"):
        check_classes("set", torch.tensor([0, 2]), ["cat", "dog", "cow"])
    with pytest.raises(UserError, match="class 'dog' and 1 more has no train image"):
        check_classes("set", torch.tensor([0]), ["cat", "dog", "cow"])
