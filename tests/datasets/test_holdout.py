"""A holdout never shows the test split."""

import torch

from ddbench.core.data import DATASETS


def load(spec):
    return DATASETS.create(spec).load()


def test_both_parts_come_from_the_train_split_and_share_no_image():
    whole, held = load("digits"), load("holdout[data=digits,fraction=0.25]")
    assert len(held.train) + len(held.test) == len(whole.train)
    assert abs(len(held.test) / len(whole.train) - 0.25) < 0.01
    chosen = torch.cat([held.train.images.indices, held.test.images.indices])
    assert chosen.sort().values.tolist() == list(range(len(whole.train)))
    assert torch.equal(held.test.labels, whole.train.labels[held.test.images.indices])


def test_seed_and_fraction_are_part_of_the_fingerprint():
    specs = ["digits", "holdout[data=digits]", "holdout[data=digits,seed=1]", "holdout[data=digits,fraction=0.3]"]
    assert len({load(spec).fingerprint for spec in specs}) == 4
