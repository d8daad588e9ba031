"""Arrays: every accepted layout gives the same data; every mistake is one line that names the file."""

import io
import json
import pickle
import struct
import time
import zipfile

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
        ({"labels": np.where(LABELS == 1, np.nan, LABELS)}, r"labels are missing \(NaN\) or infinite; leave images"),
        ({"labels": LABELS + 0.5}, "labels are fractions such as 0.5; a class is a whole number from 0 or a name"),
        ({"labels": LABELS - 1}, r"2 labels are below 0 \(smallest -1\); leave images without a class out"),
        ({"labels": LABELS.astype(complex)}, "labels are complex128; write whole numbers"),
        ({"labels": np.full((6, 3), 1 / 3)}, r"they are class probabilities, .* save labels.argmax\(1\)"),
        ({"labels": np.eye(3, dtype=int)[LABELS] | [1, 0, 0]}, "4 rows mark none or several classes"),
        ({"labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, "labels reach 9.22337e"),
        ({"labels": np.array(["a"] * 6, dtype=object)}, r"train.npz cannot be read: .*labels.astype\(str\)"),
        ({"images": IMAGES[..., :2]}, "images have shape"),
        ({"images": IMAGES[:, :0]}, r"images have shape \(6, 0, 4, 3\)"),
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
    with pytest.raises(UserError, match="groups are fractions"):
        load(write(tmp_path, groups=np.full(6, 0.5)))


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
    with pytest.raises(
        UserError, match=r"classes.json (is not JSON|must be a list)|but there are 2 class names; name at least 3"
    ):
        load(tmp_path)


def test_a_missing_folder_is_not_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")


GAPS = "labels 3, 7, 19 leave numbers out: the 3 classes are these, in this order"


def one_file(folder, file="medmnist.npz", **arrays):
    np.savez(folder / file, **arrays)
    return folder / file


def test_one_file_of_both_splits_as_medmnist_and_keras_write_it(tmp_path):
    """MedMNIST: grey images, labels as a column of uint8, and a validation split."""
    grey, column = IMAGES[..., 0], LABELS[:, None].astype(np.uint8)
    splits = {
        f"{split}_{what}": array for split in ("train", "val", "test") for what, array in (("images", grey), ("labels", column))
    }
    data = load(one_file(tmp_path, **splits))
    assert data.name == "arrays[medmnist]"
    assert data.train.labels.tolist() == LABELS.tolist()
    assert torch.equal(data.test.images[torch.arange(6)][:, 1], torch.from_numpy(grey))
    assert "labels of shape (6, 1) are read as a vector" in data.notes[0]
    assert "test: val_images, val_labels of medmnist.npz are not read" in data.notes
    keras = load(one_file(tmp_path, "mnist.npz", x_train=grey, y_train=LABELS, x_test=grey, y_test=LABELS))
    assert keras.fingerprint == data.fingerprint
    with pytest.raises(UserError, match="has no train.npz .* if medmnist.npz holds both splits, give it: path="):
        load(tmp_path)
    with pytest.raises(UserError, match="has no array 'train_images', only images, labels; one file of both splits holds"):
        load(one_file(tmp_path, "other.npz", images=IMAGES, labels=LABELS))


@pytest.mark.parametrize(
    ("labels", "names", "note"),
    [
        (LABELS[:, None], ("0", "1", "2"), "labels of shape (6, 1) are read as a vector"),
        (np.eye(3)[LABELS], ("0", "1", "2"), "one-hot labels of shape (6, 3) are read as class numbers"),
        (LABELS.astype(np.float32), ("0", "1", "2"), "labels stored as float32 are read as whole numbers"),
        (LABELS.astype(">u8"), ("0", "1", "2"), None),
        (np.array([3, 7, 19])[LABELS], ("3", "7", "19"), GAPS),
        (np.array(["cat", "cow", "dog"])[LABELS], ("cat", "cow", "dog"), None),
        (np.array([b"2", b"9", b"10"])[LABELS], ("2", "9", "10"), None),
    ],
)  # fmt: skip
def test_labels_as_people_store_them(tmp_path, labels, names, note):
    data = load(write(tmp_path, labels=labels))
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.class_names == names
    assert [line for line in data.notes if "label" in line] == ([note] if note else [])
    assert data.fingerprint == load(write(tmp_path)).fingerprint


def test_text_labels_that_are_numbers_are_ordered_as_numbers(tmp_path):
    assert load(write(tmp_path, labels=np.array(["2", "9", "10"])[LABELS])).class_order == "by number"
    assert load(write(tmp_path, labels=np.array(["2", "9", "x"])[LABELS])).class_order == "by name"


def test_a_name_that_no_image_has_is_left_out(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(["cat", "cow", "dog", "emu"]))
    data = load(write(tmp_path))
    assert data.class_names == ("cat", "cow", "dog")
    assert any("leave numbers out" in note for note in data.notes)


def test_a_class_of_test_images_alone_is_refused_with_the_cure(tmp_path):
    write(tmp_path)
    np.savez(tmp_path / "test.npz", images=IMAGES, labels=LABELS + 1)
    with pytest.raises(UserError, match="class '3' has no train image; add some to it, or leave the class out"):
        load(tmp_path)


@pytest.mark.parametrize("last", [True, False])
def test_transparent_arrays_are_composited(tmp_path, last):
    rgba = np.zeros((6, 8, 8, 4), np.uint8)
    rgba[..., 0], rgba[:, :, :, 3], rgba[0, :, :4, 3] = 200, 255, 0
    data = load(write(tmp_path, rgba if last else rgba.transpose(0, 3, 1, 2)), background="#0000ff")
    image = data.train.images[torch.tensor([0])][0]
    assert image[:, 3, 3].tolist() == [0, 0, 255]
    assert image[:, 3, 4].tolist() == [200, 0, 0]
    assert "train: 1 image has transparent pixels, composited on #0000ff" in data.notes


def test_sixteen_bit_arrays_are_scaled(tmp_path):
    data = load(write(tmp_path, IMAGES.astype(np.uint16) * 257))
    assert torch.equal(data.train.images[torch.arange(6)], torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))


def test_a_bomb_and_a_claim_of_terabytes_are_refused_within_a_second(tmp_path):
    started = time.monotonic()
    np.savez_compressed(write(tmp_path) / "train.npz", images=np.zeros((300, 1000, 1000), np.uint8), labels=np.zeros(300, int))
    packed = time.monotonic() - started
    with pytest.raises(UserError, match=r"images.npy unpacks to 0.3 GB from 0.3 MB"):
        load(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**3)})
    with zipfile.ZipFile(tmp_path / "train.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue() + b"12345")
    with pytest.raises(UserError, match=r"images.npy claims 10,000.0 GB and holds"):
        load(tmp_path)
    assert time.monotonic() - started - packed < 2


def test_what_is_noticed_about_equal_images_and_unequal_classes(tmp_path):
    write(tmp_path)
    other = IMAGES.copy()
    other[:3] = RNG.integers(0, 256, (3, 4, 4, 3))
    other[5] = other[4] = IMAGES[0]
    np.savez(tmp_path / "test.npz", images=other, labels=np.array([0, 0, 0, 0, 0, 1]))
    data = load(tmp_path)
    assert data.notes == (
        "1 of 3 classes has no test image: 2",
        "test has 1 to 5 images per class; always answering '0' has 83.3 %",
        "3 of 6 test images (50.0 %) are in train too (test image 4 = train image 0)",
        "test holds 1 further copy of images that it has already",
        "1 image is there with different labels (train image 0 = test image 4)",
    )  # fmt: skip
    found = data.facts["twins"]
    assert (found["compared"], found["test_in_train"], found["train_copies"], found["test_copies"]) == ("pixels", 3, 0, 1)


def test_clean_arrays_are_noticed_nothing_about(tmp_path):
    write(tmp_path)
    np.savez(tmp_path / "test.npz", images=255 - IMAGES, labels=LABELS)
    assert load(tmp_path).notes == ()


def test_what_is_said_about_mirrored_images_belongs_to_the_data(tmp_path):
    plain, declared = load(write(tmp_path)), load(tmp_path, mirror=False)
    assert (plain.mirror, declared.mirror) == (True, False)
    assert plain.fingerprint != declared.fingerprint
