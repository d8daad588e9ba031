"""torchvision sets in miniature copies of their published layouts, and the messages where they are missing."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

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


def test_missing_imagenet_names_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DDBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match="imagenet does not exist"):
        DATASETS.create("imagenet").load()


def test_imagenet_is_a_folder_with_val(tmp_path):
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            picture(tmp_path / split / wnid / f"{wnid}_1.JPEG")
    data = DATASETS.create("imagenet", path=tmp_path, size=8).load()
    assert data.class_names == ("n01440764", "n01443537")
    assert len(data.test) == 2


def test_a_cifar_file_that_fails_its_checksum_is_never_unpickled(tmp_path):
    """torchvision reads CIFAR by pickle, after its md5 check; a doctored file must stop before."""
    for file in ("data_batch_1", "test_batch", "batches.meta"):
        target = tmp_path / "cifar-10-batches-py" / file
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"cos\nsystem\n(S'touch /nowhere/pwned'\ntR.")
    with pytest.raises(UserError, match="cifar10 is missing or corrupt"):
        load("cifar10", tmp_path)


def test_svhn(tmp_path, monkeypatch):
    from torchvision import datasets as tv

    for split, n in (("train", 5), ("test", 3)):
        savemat(
            tmp_path / f"{split}_32x32.mat",
            {"X": np.full((32, 32, 3, n), 7, np.uint8), "y": np.arange(1, n + 1)[:, None] * 2},
        )
    monkeypatch.setattr(tv.SVHN, "_check_integrity", lambda self: True)
    data = load("svhn", tmp_path, train_limit=4)
    assert data.train.labels.tolist() == [2, 4, 6, 8]
    assert data.test.images[torch.tensor([0])].shape == (1, 3, 32, 32)
    assert data.num_classes == 10


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
    from torchvision import datasets as tv

    root = tmp_path / "flowers-102"
    for k in range(1, 7):
        picture(root / f"jpg/image_{k:05d}.jpg")
    savemat(root / "setid.mat", {"trnid": [1, 3], "valid": [2], "tstid": [4, 5, 6]})
    savemat(root / "imagelabels.mat", {"labels": [1, 1, 2, 2, 1, 2]})
    monkeypatch.setattr(tv.Flowers102, "_check_integrity", lambda self: True)
    data = load("flowers102", tmp_path, size=8)
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1, 0, 1]


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
