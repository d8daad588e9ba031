"""A holdout never shows the test split."""

import numpy as np
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


def test_a_validation_split_keeps_what_was_noticed_in_reading_and_looks_for_copies_itself(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8), np.arange(40)[:, None] % 2
    images[20:] = images[:20]
    for split in ("train", "test"):
        np.savez(
            tmp_path / f"{split}.npz",
            images=images if split == "train" else 255 - images[:4],
            labels=labels[: 40 if split == "train" else 4],
        )
    data = DATASETS.create("holdout", data=f"arrays[path={tmp_path},mirror=false]").load()
    assert "labels of shape (40, 1) are read as a vector" in data.notes
    assert any("in train too" in note for note in data.notes)
    assert not data.mirror
