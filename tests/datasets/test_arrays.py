"""Arrays: every accepted layout gives the same data; every mistake is one line that names the file."""

import json
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(folder, images=IMAGES, labels=LABELS, **more):
    for split in ("train", "test"):
        np.savez(folder / f"{split}.npz", images=images, labels=labels, **more)
    return folder


def load(folder, **options):
    return DATASETS.create("arrays", path=folder, **options).load()


@pytest.mark.parametrize("layout", ["nhwc", "nchw", "safetensors"])
def test_layouts_give_the_same_data(tmp_path, layout):
    if layout == "safetensors":
        for split in ("train", "test"):
            save_file({"images": IMAGES, "labels": LABELS}, tmp_path / f"{split}.safetensors")
    else:
        write(tmp_path, IMAGES if layout == "nhwc" else IMAGES.transpose(0, 3, 1, 2))
    data = load(tmp_path)
    assert torch.equal(data.train.images[torch.tensor([4])][0], torch.from_numpy(IMAGES[4].transpose(2, 0, 1)))
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.fingerprint == load(write(tmp_path)).fingerprint


def test_grey_images_are_repeated_to_three_channels(tmp_path):
    images = load(write(tmp_path, IMAGES[..., 0])).test.images[torch.arange(6)]
    assert images.shape == (6, 3, 4, 4)
    assert torch.equal(images[:, 1], torch.from_numpy(IMAGES[..., 0]))


def test_limits_names_and_groups(tmp_path):
    write(tmp_path, groups=LABELS[::-1].copy())
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    data = load(tmp_path, train_limit=4)
    assert (len(data.train), len(data.test)) == (4, 6)
    assert data.class_names == ("a", "b", "c")
    assert data.train.groups.tolist() == [2, 1, 0, 2]
    assert data.fingerprint != load(tmp_path).fingerprint


def test_a_changed_pixel_or_label_changes_the_fingerprint(tmp_path):
    base = load(write(tmp_path)).fingerprint
    other = IMAGES.copy()
    other[0, 0, 0, 0] ^= 1
    assert load(write(tmp_path, other)).fingerprint != base
    assert load(write(tmp_path, labels=LABELS[::-1].copy())).fingerprint != base


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, "images are float32; save them as uint8"),
        ({"labels": LABELS[:4]}, "6 images but 4 labels"),
        ({"labels": LABELS.astype(float)}, "labels must be a vector of integers"),
        ({"labels": LABELS - 1}, "labels must be a vector of integers from 0"),
        ({"images": IMAGES[..., :2]}, "images have shape"),
        ({"images": np.array([{}] * 6, dtype=object)}, "train.npz cannot be read: .*allow_pickle"),
    ],
)
def test_mistakes_name_the_file(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as error:
        load(write(tmp_path, **arrays))
    assert "train.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_and_missing_files(tmp_path):
    with pytest.raises(UserError, match="has no train.npz and no train.safetensors"):
        load(tmp_path)
    file = write(tmp_path) / "test.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="test.npz cannot be read"):
        load(tmp_path)
    np.savez(tmp_path / "test.npz", pictures=IMAGES)
    with pytest.raises(UserError, match="test.npz has no array 'images', only pictures"):
        load(tmp_path)


def test_a_limit_takes_the_first_images_and_keeps_the_class_count(tmp_path):
    data = load(write(tmp_path), train_limit=5, test_limit=1)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(data.train.images[torch.tensor([1])][0], torch.from_numpy(IMAGES[1].transpose(2, 0, 1)))
    assert (len(data.test), data.num_classes) == (1, 3)
    with pytest.raises(UserError, match="class '2' has no train image; raise train_limit"):
        load(tmp_path, train_limit=2)


def test_groups_of_another_length_are_refused(tmp_path):
    with pytest.raises(UserError, match="train.npz: 6 images but 3 groups"):
        load(write(tmp_path, groups=np.array([0, 1, 0])))
    with pytest.raises(UserError, match="groups must be a vector of integers"):
        load(write(tmp_path, groups=np.zeros(6)))


def corrupt_member(file):
    """Compressed data that starts with an impossible block type; the archive's directory stays whole."""
    np.savez_compressed(file, images=IMAGES, labels=LABELS)
    raw = bytearray(file.read_bytes())
    raw[30 + sum(struct.unpack_from("<HH", raw, 26))] = 0xFF  # after the local header, the name and the extra field
    file.write_bytes(bytes(raw))


def plain_npy(file):
    with file.open("wb") as opened:
        np.save(opened, IMAGES)


def pickle_itself(file):
    file.write_bytes(pickle.dumps({"images": IMAGES, "labels": LABELS}))


@pytest.mark.parametrize("damage", [corrupt_member, plain_npy, pickle_itself, lambda f: f.write_bytes(b"")])
def test_every_kind_of_damage_is_one_line(tmp_path, damage):
    damage(write(tmp_path) / "train.npz")
    with pytest.raises(UserError, match="train.npz cannot be read") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_truncated_safetensors_file(tmp_path):
    write(tmp_path)
    (tmp_path / "test.npz").unlink()
    save_file({"images": IMAGES, "labels": LABELS}, tmp_path / "test.safetensors")
    (tmp_path / "test.safetensors").write_bytes((tmp_path / "test.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match="test.safetensors cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("text", ['["a", "b"]', '{"a": 0}', "[", '"abc"'])
def test_class_names_must_be_a_list_of_enough_names(tmp_path, text):
    (write(tmp_path) / "classes.json").write_text(text)
    with pytest.raises(UserError, match=r"classes.json (is not JSON|must be a list of at least 3)"):
        load(tmp_path)


def test_a_missing_folder_is_not_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
