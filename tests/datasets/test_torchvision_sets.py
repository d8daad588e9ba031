"""torchvision sets in miniature copies of their published layouts, and the messages where they are missing."""

import csv
import hashlib
import json
import pickle
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets as tv

from ddbench.core.data import DATASETS
from ddbench.core.errors import UserError

NAMES = ["cifar10", "cifar100", "stl10", "svhn", "flowers102", "food101", "pets", "dtd", "eurosat", "gtsrb", "aircraft", "cars"]


def picture(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((24, 20, 3), sum(map(ord, file.name)) % 256, np.uint8)
    Image.fromarray(pixels).save(file)


def load(name, root, **options):
    return DATASETS.create(name, root=root, **options).load()


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_says_where_it_belongs_and_how_to_get_it(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} is missing or corrupt under {tmp_path}") as error:
        load(name, tmp_path)
    assert ("download=true" in str(error.value)) == (name != "cars")
    assert "\n" not in str(error.value)


def test_a_limit_keeps_every_class_and_changes_the_fingerprint(tmp_path):
    for name in ("Forest", "River"):
        for k in range(10):
            picture(tmp_path / f"eurosat/2750/{name}/{name}_{k}.jpg")
    whole, part = load("eurosat", tmp_path), load("eurosat", tmp_path, train_limit=2)
    assert part.train.labels.tolist() == [0, 1]
    assert len(part.test) == len(whole.test)
    assert part.fingerprint != whole.fingerprint
    with pytest.raises(UserError, match="eurosat: class 'River' has no train image"):
        load("eurosat", tmp_path, train_limit=1)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


CIFAR = {
    "cifar10": ("CIFAR10", [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], "labels", "label_names", 10),
    "cifar100": ("CIFAR100", ["train", "test"], "fine_labels", "fine_label_names", 100),
}


def write_cifar(name, root):
    """Every class once in each file; pixel values tell the channel (0, 1, 2) and the row."""
    cls, batches, label_key, name_key, classes = CIFAR[name]
    folder = root / getattr(tv, cls).base_folder
    folder.mkdir()
    image = (np.arange(3)[:, None, None] * 64 + np.arange(32)[None, :, None] + np.zeros((1, 1, 32))).astype(np.uint8)
    for batch in batches:
        entry = {"data": np.stack([image.reshape(-1)] * classes), label_key: list(range(classes))}
        (folder / batch).write_bytes(pickle.dumps(entry))
    meta = {name_key: [f"class {k}" for k in range(classes)]}
    (folder / getattr(tv, cls).meta["filename"]).write_bytes(pickle.dumps(meta))
    return folder, image


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


def publish(cls, folder, monkeypatch):
    """Make what lies in `folder` the published files, by their checksums."""
    for listed in ("train_list", "test_list"):
        monkeypatch.setattr(cls, listed, [[file, md5(folder / file)] for file, _ in getattr(cls, listed)])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(folder / cls.meta["filename"])})


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name, tmp_path, monkeypatch):
    folder, image = write_cifar(name, tmp_path)
    classes = CIFAR[name][-1]
    publish(getattr(tv, CIFAR[name][0]), folder, monkeypatch)
    data = load(name, tmp_path, test_limit=3)
    assert len(data.train) == classes * (5 if name == "cifar10" else 1)
    assert data.class_names == tuple(f"class {k}" for k in range(classes))
    assert data.test.labels.tolist() == [0, 1, 2]
    assert torch.equal(data.train.images[torch.tensor([1])][0], torch.from_numpy(image))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_no_doctored_cifar_file_is_unpickled_whichever_it_is(name, tmp_path, monkeypatch):
    """torchvision reads CIFAR by pickle, after the md5 checks; a file changed since publication must stop before."""
    folder, _ = write_cifar(name, tmp_path)
    publish(getattr(tv, CIFAR[name][0]), folder, monkeypatch)
    for file in sorted(folder.iterdir()):
        good = file.read_bytes()
        file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        with pytest.raises(UserError, match=f"{name} is missing or corrupt .*download=true"):
            load(name, tmp_path)
        assert not (tmp_path / "sprung").exists()
        file.write_bytes(good)
    load(name, tmp_path)


def test_stl10(tmp_path, monkeypatch):
    """Published as column-major uint8, labels from 1."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    image = np.zeros((3, 96, 96), np.uint8)
    image[1, 5, 70] = 200  # green, row 5, column 70
    for split in ("train", "test"):
        np.stack([image.transpose(0, 2, 1)] * 10).tofile(folder / f"{split}_X.bin")
        np.arange(1, 11, dtype=np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(f"name{k}" for k in range(10)))
    monkeypatch.setattr(tv.STL10, "_check_integrity", lambda self: True)
    data = load("stl10", tmp_path)
    assert data.train.labels.tolist() == list(range(10))
    assert data.class_names[9] == "name9"
    assert torch.equal(data.test.images[torch.tensor([4])][0], torch.from_numpy(image))


def test_an_image_of_the_list_that_is_not_there_is_named(tmp_path):
    food = tmp_path / "food-101"
    for k in range(2):
        picture(food / f"images/waffles/{k}.jpg")
    (food / "meta").mkdir()
    (food / "meta/train.json").write_text('{"waffles": ["waffles/0", "waffles/1"]}')
    (food / "meta/test.json").write_text('{"waffles": ["waffles/2"]}')
    for limit in (2, 1e-9):
        with pytest.raises(UserError, match="2.jpg is missing; the set is incomplete"):
            load("food101", tmp_path, memory_limit_gb=limit)


def test_a_broken_label_file_is_one_line(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    picture(root / "images/beagle_1.jpg")
    (root / "annotations").mkdir()
    (root / "annotations/trainval.txt").write_text("beagle_1 1\n")
    with pytest.raises(UserError, match="pets is missing or corrupt"):
        load("pets", tmp_path)


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    def offline(self):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(tv.DTD, "_download", offline)
    with pytest.raises(UserError, match="dtd is missing or corrupt .*no network"):
        load("dtd", tmp_path, download=True)


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr(tv.DTD, "_download", lambda self: pytest.fail("downloaded"))
    with pytest.raises(UserError):
        load("dtd", tmp_path)


def test_svhn(tmp_path, monkeypatch):
    """Published with axes (row, column, channel, image) and the digit 0 labelled 10."""
    for split, n in (("train", 12), ("test", 3)):
        savemat(
            tmp_path / f"{split}_32x32.mat",
            {"X": np.full((32, 32, 3, n), 7, np.uint8), "y": np.arange(n)[:, None] % 10 + 1},
        )
    monkeypatch.setattr(tv.SVHN, "_check_integrity", lambda self: True)
    data = load("svhn", tmp_path, train_limit=11)
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.test.images[torch.tensor([0])].shape == (1, 3, 32, 32)
    assert data.num_classes == 10
    with pytest.raises(UserError, match="svhn: class '0' has no train image; raise train_limit"):
        load("svhn", tmp_path, train_limit=9)


def test_food101(tmp_path):
    meta = {}
    for name in ("apple_pie", "waffles"):
        meta[name] = [f"{name}/{k}" for k in range(2)]
        for k in range(2):
            picture(tmp_path / "food-101/images" / name / f"{k}.jpg")
    (tmp_path / "food-101/meta").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"food-101/meta/{split}.json").write_text(json.dumps(meta))
    data = load("food101", tmp_path, size=8)
    assert data.class_names == ("apple_pie", "waffles")
    assert [finding.partition("food-101: ")[2] for finding in DATASETS.create("food101", root=tmp_path).check()] == [
        "4 train images instead of 75,750; download or unpack it again",
        "4 test images instead of 25,250; download or unpack it again",
    ]
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[torch.arange(4)].shape == (4, 3, 8, 8)


def test_dtd_trains_on_train_and_val(tmp_path):
    root = tmp_path / "dtd/dtd"
    (root / "labels").mkdir(parents=True)
    for k, split in enumerate(("train", "val", "test")):
        picture(root / f"images/banded/banded_{k}.jpg")
        picture(root / f"images/woven/woven_{k}.jpg")
        (root / f"labels/{split}1.txt").write_text(f"banded/banded_{k}.jpg\nwoven/woven_{k}.jpg\n")
    data = load("dtd", tmp_path, size=8)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.class_names == ("banded", "woven")


def test_pets(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        (root / f"annotations/{split}.txt").write_text("Abyssinian_1 1 1 1\nbeagle_2 2 2 1\n")
    for name in ("Abyssinian_1", "beagle_2"):
        picture(root / f"images/{name}.jpg")
    data = load("pets", tmp_path, size=8)
    assert data.class_names == ("Abyssinian", "Beagle")
    assert data.test.labels.tolist() == [0, 1]


def test_flowers102_uses_the_official_train_and_test_ids(tmp_path, monkeypatch):
    root = tmp_path / "flowers-102"
    for k in range(1, 107):
        picture(root / f"jpg/image_{k:05d}.jpg")
    savemat(root / "setid.mat", {"trnid": list(range(1, 103)), "valid": [103], "tstid": [104, 105, 106]})
    savemat(root / "imagelabels.mat", {"labels": [*range(102, 0, -1), 7, 2, 1, 2]})
    monkeypatch.setattr(tv.Flowers102, "_check_integrity", lambda self: True)
    data = load("flowers102", tmp_path, size=8)
    assert data.train.labels.tolist() == list(range(101, -1, -1))
    assert data.test.labels.tolist() == [1, 0, 1]
    assert data.class_names[0] == "pink primrose"


def test_aircraft_variants(tmp_path):
    root = tmp_path / "fgvc-aircraft-2013b/data"
    picture(root / "images/1.jpg")
    picture(root / "images/2.jpg")
    (root / "variants.txt").write_text("707-320\nA300 B4\n")
    for split in ("trainval", "test"):
        (root / f"images_variant_{split}.txt").write_text("1 707-320\n2 A300 B4\n")
    data = load("aircraft", tmp_path, size=8)
    assert data.class_names == ("707-320", "A300 B4")
    assert len(data.train) == 2


def test_gtsrb(tmp_path):
    root = tmp_path / "gtsrb"
    for label in ("00000", "00001"):
        picture(root / "GTSRB/Training" / label / "1.ppm")
    picture(root / "GTSRB/Final_Test/Images/1.ppm")
    with (root / "GT-final_test.csv").open("w") as file:
        csv.writer(file, delimiter=";").writerows([["Filename", "ClassId"], ["1.ppm", 1]])
    data = load("gtsrb", tmp_path, size=8)
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1]


def test_eurosat_has_a_fixed_stratified_split(tmp_path):
    for name in ("Forest", "River"):
        for k in range(10):
            picture(tmp_path / f"eurosat/2750/{name}/{name}_{k}.jpg")
    data = load("eurosat", tmp_path)
    assert data.train.labels.bincount().tolist() == [8, 8]
    assert data.test.labels.bincount().tolist() == [2, 2]
    assert data.fingerprint == load("eurosat", tmp_path).fingerprint


def test_cars(tmp_path):
    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    kind = [("fname", "O"), ("class", "i4")]
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        annotations = np.array([("1.jpg", 1), ("2.jpg", 2)], dtype=kind)
        savemat(root / file, {"annotations": annotations})
        picture(root / f"cars_{part}/1.jpg")
        picture(root / f"cars_{part}/2.jpg")
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(["AM General", "Acura RL"], dtype=object)})
    data = load("cars", tmp_path, size=8)
    assert data.class_names == ("AM General", "Acura RL")
    assert data.test.labels.tolist() == [0, 1]
